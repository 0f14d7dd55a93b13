/** Sessions of the real server: talking, leaving, refusals. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "streamapp-client";

import { client, collect, until, url } from "./server.js";

const stateOf = async (session) => (await client.job(session.jobId).status()).status;
const outputsOf = async (session) => (await collect(session)).filter(({ name }) => name === "output").map(({ data }) => data);

test("each input is answered, and one that is wrong by an error with its number", async () => {
  const session = client.connect("/doubled");
  const given = [1, "two", 3, 13].map((n) => session.send({ n }));
  session.finish();
  const events = await collect(session);
  assert.deepEqual(await Promise.all(given), [1, 2, 3, 4]);
  assert.deepEqual(events.filter(({ name }) => name === "output").map(({ data }) => data), [2, 6]);
  const errors = events.filter(({ name }) => name === "input_error").map(({ data }) => [data.input, data.error.code]);
  assert.deepEqual(errors, [[2, "invalid_input"], [4, "endpoint_failed"]]);
  assert.equal(await session.done(), 6);
  assert.equal(await stateOf(session), "succeeded");
});

test("what goes through its inputs by itself answers while they come", async () => {
  const session = client.connect("/echoed");
  const seen = [];
  session.send({ n: 0 });
  for await (const { name, data } of session) {
    if (name !== "output") continue;
    seen.push(data.n);
    if (data.n < 4) await session.send({ n: data.n + 1 });
    else session.finish();
  }
  assert.deepEqual(seen, [0, 1, 2, 3, 4]);
});

test("previews of a session are newest-wins, and its outputs are all there", async () => {
  const session = client.connect("/echoed");
  for (let n = 0; n < 300; n++) await session.send({ n });
  session.finish();
  const events = await collect(session);
  assert.deepEqual(events.filter(({ name }) => name === "output").map(({ data }) => data.n), Array.from({ length: 300 }, (_, n) => n));
  assert.ok(events.some(({ name }) => name === "preview"));
});

test("large inputs, exact integers and null come back as they were", async () => {
  const session = new Client(url, { largeIntegers: "bigint" }).connect("/echoed");
  const given = [{ text: "ä".repeat(3_000_000) }, { seed: 12345678901234567890n }, null, { file: "data:text/plain;base64,YQ==" }];
  for (const input of given.slice(0, 3)) session.send(input);
  session.send({ file: new Blob(["a"], { type: "text/plain" }) });
  session.finish();
  assert.deepEqual(await outputsOf(session), given);
});

for (const [how, leave] of Object.entries({
  "cancel()": (session) => session.cancel(),
  "an aborted signal": (session, controller) => controller.abort(),
})) {
  test(`${how} ends the job of a session`, async () => {
    const controller = new AbortController();
    const session = client.connect("/echoed", { signal: controller.signal });
    const read = collect(session).catch((error) => error);
    await until(() => session.jobId);
    await leave(session, controller);
    await read;
    await until(async () => (await stateOf(session)) === "cancelled");
    await assert.rejects(session.send(1));
  });
}

test("a session is cancelled by its job's id from elsewhere", async () => {
  const session = client.connect("/echoed");
  const read = collect(session);
  await until(() => session.jobId);
  await client.job(session.jobId).cancel();
  await assert.rejects(read, { code: "cancelled" });
});

test("what is no session is told at once", async () => {
  await assert.rejects(client.connect("/nowhere").done(), { code: "not_found" });
  await assert.rejects(client.connect("/numbers").done(), { code: "unexpected_answer", message: /write client.stream/ });
});
