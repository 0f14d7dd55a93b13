/** Streams of the real server: reading, failing, leaving. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";

import { Client, StreamappError } from "streamapp-client";

import { client, collect, until, url } from "./server.js";

const ENDLESS = { input: { n: 1_000_000 } };

async function statusOf(jobId) {
  return (await client.job(jobId).status()).status;
}

function isCancelled(stream) {
  return until(async () => (await statusOf(stream.jobId)) === "cancelled");
}

// Reading

test("a loop gets every event, and done() the result", async () => {
  const stream = await client.stream("/steps", { input: { n: 2 } });
  const events = await collect(stream);
  const outputs = events.filter(({ name }) => name === "output");
  assert.deepEqual(outputs.map(({ data }) => data), [0, 1]);
  assert.ok(events.some(({ name, data }) => name === "log" && data.message === "step 0"));
  assert.match(stream.jobId, /^[0-9a-f]{32}$/);
  assert.ok(events.every(({ id }) => id.startsWith(`${stream.jobId}:1.`)));
  assert.equal(await stream.done(), 1);
});

test("listeners get the events by name without a loop", async () => {
  const stream = await client.stream("/steps", { input: { n: 3 } });
  const outputs = [], all = [], results = [];
  stream.on("output", (data, event) => outputs.push([data, event.name]));
  stream.on("data", (data) => all.push(data)).on("done", (result) => results.push(result));
  assert.equal(await stream.done(), 2);
  assert.deepEqual(outputs, [[0, "output"], [1, "output"], [2, "output"]]);
  assert.ok(all.length > 3);
  assert.deepEqual(results, [2]);
});

test("done() may be asked first, and the loop still gets every event", async () => {
  const stream = await client.stream("/numbers", { input: { n: 30 } });
  const result = stream.done();
  assert.equal((await collect(stream)).length, 30);
  assert.equal((await result).n, 29);
});

test("a loop over a stream that is being read already is refused", async () => {
  const stream = await client.stream("/numbers", { input: { n: 3 } });
  await stream.done();
  assert.throws(() => stream[Symbol.asyncIterator](), /begin the loop before you await/);
});

test("what a listener throws is uncaught, and does not end the stream", async (t) => {
  const stream = await client.stream("/numbers", { input: { n: 3 } });
  const uncaught = new Promise((resolve) => process.setUncaughtExceptionCaptureCallback(resolve));
  t.after(() => process.setUncaughtExceptionCaptureCallback(null));
  stream.on("output", ({ n }) => { if (n === 1) throw new Error("of the listener"); });
  assert.equal((await stream.done()).n, 2);
  assert.equal((await uncaught).message, "of the listener");
});

test("a slow loop makes the server wait", async () => {
  const stream = await client.stream("/endless");
  for await (const { name } of stream) if (name === "output") break;
  await isCancelled(stream);
});

test("lines and text are events without a name", async () => {
  const lines = await collect(await client.stream("/lines", { accept: "application/x-ndjson" }));
  assert.deepEqual(lines.map(({ name, data }) => [name, data]), [["message", { n: 1 }], ["message", "zwei\n"]]);
  const text = await collect(await client.stream("/text", { accept: "text/plain" }));
  assert.equal(text.map(({ data }) => data).join(""), "Grüße 🙂");
});

test("even an endpoint of lines can be read as events", async () => {
  const events = await collect(await client.stream("/lines"));
  assert.deepEqual(events.map(({ name }) => name), ["output", "output"]);
});

test("what has been read is not read, and its end not told, again", async () => {
  const stream = await client.stream("/numbers", { input: { n: 3 } });
  let ends = 0;
  stream.on("done", () => ends++);
  assert.equal((await collect(stream)).length, 3);
  assert.deepEqual(await collect(stream), []);
  assert.equal(ends, 1);
});

// Failing

test("an error is thrown in the loop, by done(), and told to listeners", async () => {
  const stream = await client.stream("/lines", { input: { fails: true } });
  const told = [];
  stream.on("error", (error) => told.push(error));
  await assert.rejects(collect(stream), { name: "StreamappError", code: "endpoint_failed", jobId: stream.jobId });
  await assert.rejects(stream.done(), { code: "endpoint_failed", retryable: false });
  stream.on("done", () => assert.fail("it has failed"));
  assert.deepEqual(await collect(stream), []);
  assert.equal(told.length, 1);
});

test("a line that tells an error throws", async () => {
  const stream = await client.stream("/lines", { input: { fails: true }, accept: "application/x-ndjson" });
  await assert.rejects(collect(stream), { code: "endpoint_failed" });
});

test("a refusal is thrown before there is a stream", async () => {
  const error = await client.stream("/numbers", { input: { n: "many" } }).catch((error) => error);
  assert.ok(error instanceof StreamappError);
  assert.equal(error.code, "invalid_input");
  assert.equal(error.status, 422);
  assert.deepEqual(error.detail[0].loc.at(-1), "n");
  await assert.rejects(client.stream("/nowhere"), { code: "not_found", status: 404 });
});

test("an endpoint that answers otherwise is named with the call to write", async () => {
  await assert.rejects(client.stream("/echo"), { code: "unexpected_answer", message: /write client.run/ });
});

test("run gets the result of a stream alone", async () => {
  assert.equal(await client.run("/steps"), 2);
  assert.equal(await client.run("/text"), "Grüße 🙂");
});

test("a server that was never reached is given up soon", async () => {
  const nobody = createServer().listen(0, "127.0.0.1");
  await once(nobody, "listening");
  const { port } = nobody.address();
  nobody.close();
  await once(nobody, "close");
  const patient = new Client(`http://127.0.0.1:${port}`, { patienceMs: 3_600_000 });
  await assert.rejects(patient.run("/echo"), { code: "connection_failed", retryable: true });
});

test("a job that somebody else cancels throws in the loop", async () => {
  const stream = await client.stream("/numbers", ENDLESS);
  await client.job(stream.jobId).cancel();
  await assert.rejects(collect(stream), { code: "cancelled" });
  await assert.rejects(stream.done(), { code: "cancelled" });
});

test("a URL that is none is refused at once", () => {
  assert.throws(() => new Client("localhost"), TypeError);
});

// Leaving

test("leaving the loop cancels the job", async () => {
  const stream = await client.stream("/numbers", ENDLESS);
  for await (const event of stream) if (event.data.n === 3) break;
  assert.equal(await statusOf(stream.jobId), "cancelled");
  await assert.rejects(stream.done(), { code: "cancelled" });
});

test("an error in the loop's body cancels the job", async () => {
  const stream = await client.stream("/numbers", ENDLESS);
  const read = async () => { for await (const _ of stream) throw new Error("of the body"); };
  await assert.rejects(read(), /of the body/);
  assert.equal(await statusOf(stream.jobId), "cancelled");
});

test("cancel() ends the loop that waits, and the job", async () => {
  const stream = await client.stream("/numbers", ENDLESS);
  stream.on("output", ({ n }) => { if (n === 5) stream.cancel(); });
  const events = await collect(stream);
  assert.equal(events.at(-1).data.n, 5);
  await isCancelled(stream);
  await assert.rejects(stream.done(), { code: "cancelled" });
});

test("cancel() after the end does nothing", async () => {
  const stream = await client.stream("/numbers", { input: { n: 3 } });
  await collect(stream);
  await stream.cancel();
  assert.equal((await stream.done()).n, 2);
  assert.equal(await statusOf(stream.jobId), "succeeded");
});

test("an aborted signal throws its reason, and cancels the job though nobody reads", async () => {
  const controller = new AbortController();
  const stream = await client.stream("/numbers", { ...ENDLESS, signal: controller.signal });
  const reason = new Error("enough");
  controller.abort(reason);
  await isCancelled(stream);
  await assert.rejects(collect(stream), reason);
  await assert.rejects(stream.done(), reason);
});

test("a signal that is aborted already sends nothing", async () => {
  const started = await client.run("/count");
  const aborted = { signal: AbortSignal.abort() };
  await assert.rejects(client.stream("/numbers", { ...ENDLESS, ...aborted }), { name: "AbortError" });
  await assert.rejects(client.run("/echo", aborted), { name: "AbortError" });
  assert.equal(await client.run("/count"), started);
});

test("a stream out of time is cancelled", async () => {
  const stream = await client.stream("/numbers", { ...ENDLESS, timeoutMs: 3000 });
  await assert.rejects(collect(stream), { code: "deadline_exceeded" });
  await isCancelled(stream);
});

test("the key goes with every request", async () => {
  const stream = await new Client(url, { key: "k" }).stream("/numbers", { input: { n: 1 } });
  assert.equal((await stream.done()).n, 0);
});
