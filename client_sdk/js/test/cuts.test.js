/** Streams and sessions through a proxy that cuts: before the head, in it, in an event, before the last chunk; by FIN and by RST. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "streamapp-client";

import { client, collect, cuttingUrl } from "./server.js";
import { LONG_MS } from "./waiting.js";

const CUTS = 1000;
const AT_ONCE = 20;

test(`${CUTS} cuts lose, double and move nothing`, { timeout: LONG_MS }, async (t) => {
  const started = await client.run("/count");
  const cutClient = new Client(cuttingUrl);
  let cuts = 0, streams = 0;

  async function read() {
    const stream = await cutClient.stream("/numbers", { input: { n: 100, large: 600 } });
    const numbers = (await collect(stream)).map(({ data }) => data.n);
    assert.deepEqual(numbers, Array.from({ length: 100 }, (_, i) => i));
    assert.equal((await stream.done()).n, 99);
    cuts += stream.reconnects;
    streams++;
  }

  const reader = async () => { while (cuts < CUTS) await read(); };
  await Promise.all(Array.from({ length: AT_ONCE }, reader));
  t.diagnostic(`${streams} streams, ${cuts} resumed cuts`);
  assert.equal(await client.run("/count"), started + streams, "a job was started twice");
});

test("sessions that are cut lose and double nothing", { timeout: LONG_MS }, async (t) => {
  const cutClient = new Client(cuttingUrl, { resumeWindowMs: 60_000 }); // a busy machine takes longer to come back
  const inputs = 100;
  let cuts = 0;

  async function talk() {
    const session = cutClient.connect("/echoed");
    const read = collect(session);
    for (let n = 0; n < inputs; n++) {
      await session.send({ n, noise: Array.from({ length: 40 }, Math.random).join() }); // which no extension compresses
    }
    session.finish();
    const outputs = (await read).filter(({ name }) => name === "output");
    assert.deepEqual(outputs.map(({ data }) => data.n), Array.from({ length: inputs }, (_, n) => n));
    cuts += session.reconnects;
  }

  await Promise.all(Array.from({ length: AT_ONCE }, talk));
  t.diagnostic(`${cuts} resumed cuts`);
  assert.ok(cuts > AT_ONCE);
});

test("sessions that are cut before they hear that they are open take each input once", { timeout: LONG_MS }, async () => {
  const cutClient = new Client(process.env.STREAMAPP_OPENINGS_CUTTING_URL, { resumeWindowMs: 60_000 });
  const sessions = 50;
  const started = await client.run("/count");

  async function talk() {
    const session = cutClient.connect("/tally");
    for (const n of [0, 1, 2]) session.send(n);
    session.finish();
    const outputs = (await collect(session)).map(({ data }) => [data.n, data.input]);
    assert.deepEqual(outputs, [0, 1, 2, 3, 4, 5].map((n) => [n, Math.floor(n / 2)]));
  }

  await Promise.all(Array.from({ length: sessions }, talk));
  assert.equal(await client.run("/count"), started + sessions, "a session was opened twice");
});

test("calls whose answer is lost are made again", async () => {
  const cutClient = new Client(cuttingUrl);
  for (let n = 0; n < 5; n++) assert.equal(await cutClient.run("/echo", { input: { value: n } }), n);
});

test("without patience a cut stream is interrupted", async () => {
  const impatient = new Client(cuttingUrl, { patienceMs: 0 });
  const read = async () => collect(await impatient.stream("/numbers", { input: { n: 1000 } }));
  await assert.rejects(read(), ({ code }) => code === "stream_interrupted" || code === "connection_failed");
});

test("lines that are cut cannot be resumed", async () => {
  const cutClient = new Client(cuttingUrl);
  const read = async () => {
    const stream = await cutClient.stream("/numbers", { input: { n: 3000 }, accept: "application/x-ndjson" });
    await collect(stream);
  };
  await assert.rejects(read(), { code: "stream_interrupted" });
});
