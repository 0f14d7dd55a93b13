/** A server that answers what the test says. */

import { once } from "node:events";
import { createServer } from "node:http";

export const JOB = "0123456789abcdef0123456789abcdef";
export const STREAM = { "Content-Type": "text/event-stream", "X-Streamapp-Job-Id": JOB };
export const JSON_ANSWER = { "Content-Type": "application/json" };

/** Answer the first request by the first function, the next by the next, and all others by the last. */
export async function serving(t, ...answers) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request);
    (answers.length > 1 ? answers.shift() : answers[0])(response, request);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => { server.close(); server.closeAllConnections(); });
  return { url: `http://127.0.0.1:${server.address().port}`, requests };
}
