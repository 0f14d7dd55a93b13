/** What calls.py does, in JavaScript: `node calls.mjs PACKAGE URL CUT KEY`; PACKAGE is the client's index.js. */

import { pathToFileURL } from "node:url";

const [file, url, cut, key] = process.argv.slice(2);
const { Client, StreamappError } = await import(pathToFileURL(file));

async function told(events) {
  const found = [];
  for await (const { name, data } of events) {
    if (name === "log") delete data.timestamp;
    found.push([name, data]);
  }
  return found;
}

async function codeOf(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof StreamappError)) throw error;
    return error.code;
  }
  return "none";
}

const client = new Client(url, { key });
const stream = await client.stream("/stream", { input: { steps: 2 } });
const events = await told(stream);
const resumed = await new Client(cut, { key }).stream("/stream", { input: { steps: 200 } });
const outputs = (await told(resumed)).filter(([name]) => name === "output");
const job = await client.submit("/stream", { input: { steps: 2 } });
const endless = await client.submit("/endless", { input: {} });
await endless.cancel();

const session = client.connect("/doubled");
const heard = [];
await session.send({ x: 1 });
for await (const { name, data } of session) {
  heard.push(name === "input_error" ? data.error.code : data);
  if (heard.length === 1) await session.send({ x: 13 });
  if (heard.length === 2) await session.send({ x: 3 });
  if (heard.length === 3) session.finish();
}

const came = {
  client: file,
  stream: events,
  result: await stream.done(),
  resumed: outputs.length === 200 && outputs.every(([, { count }], n) => count === n) && resumed.reconnects > 0,
  value: await client.run("/value", { input: { x: 2 } }),
  job: [await job.result({ timeoutMs: 60_000 }), (await job.status()).status, (await told(await job.events())).map(([name]) => name)],
  session: heard,
  errors: [
    await codeOf(() => client.run("/value", { input: { x: "no" } })),
    await codeOf(() => client.run("/nothing", { input: {} })),
    await codeOf(() => new Client(url, { key: "another" }).run("/value", { input: { x: 2 } })),
    await codeOf(() => client.run("/value", { input: { x: 13 } })),
    await codeOf(async () => told(await client.stream("/stream", { input: { steps: 1, fails: true } }))),
    await codeOf(() => endless.result({ timeoutMs: 60_000 })),
  ],
};
process.stdout.write(JSON.stringify(came));
