/** Say where the servers of the tests are: tests/test_js_client.py starts them. */

import { Client } from "streamapp-client";

import { WAIT_MS } from "./waiting.js";

/** An app that numbers its events (tests/apps/numbered.py), reached directly, and through a proxy that cuts. */
export const { STREAMAPP_URL: url, STREAMAPP_CUTTING_URL: cuttingUrl } = process.env;
if (!url || !cuttingUrl) throw new Error("Run by `pytest tests/test_js_client.py`, which starts the servers");

export const client = new Client(url);

/** Wait for a condition of another process. */
export async function until(isTrue) {
  const deadline = performance.now() + WAIT_MS;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error("the condition did not come true in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}
