/** Calls that answer once, jobs without a reader, inputs. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "streamapp-client";

import { client, collect, url } from "./server.js";
import { WAIT_MS } from "./waiting.js";

test("run returns the value", async () => {
  assert.deepEqual(await client.run("/echo", { input: { value: [1, { a: "ä" }, null] } }), [1, { a: "ä" }, null]);
  assert.equal(await client.run("/echo"), null);
});

test("run gives up in its time", async () => {
  const call = client.run("/sleep", { input: { seconds: 60 }, timeoutMs: 200 });
  await assert.rejects(call, { code: "deadline_exceeded", message: /timeoutMs: 200/ });
});

test("Blobs, Files and bytes become data URIs", async () => {
  const large = new Uint8Array(100_001).map((_, i) => i * 7);
  const value = {
    blob: new Blob(["abc"], { type: "image/png" }),
    list: [new File(["abc"], "a.txt", { type: "text/plain" }), new Blob(["abc"])],
    view: new Uint8Array([120, 97, 98, 99]).subarray(1),
    buffer: new TextEncoder().encode("abc").buffer,
    large,
    date: new Date(0),
  };
  const sent = await client.run("/echo", { input: { value } });
  assert.deepEqual(sent, {
    blob: "data:image/png;base64,YWJj",
    list: ["data:text/plain;base64,YWJj", "data:application/octet-stream;base64,YWJj"],
    view: "data:application/octet-stream;base64,YWJj",
    buffer: "data:application/octet-stream;base64,YWJj",
    large: `data:application/octet-stream;base64,${Buffer.from(large).toString("base64")}`,
    date: "1970-01-01T00:00:00.000Z",
  });
});

test("a form goes as it is", async () => {
  const form = new FormData();
  form.append("value", "abc");
  form.append("n", "2");
  assert.equal(await client.run("/echo", { input: form }), "abc");
  const events = await collect(await client.stream("/steps", { input: form }));
  assert.deepEqual(events.filter(({ name }) => name === "output").map(({ data }) => data), [0, 1]);
});

test("a submitted job is followed by its handle", async () => {
  const job = await client.submit("/steps", { input: { n: 4 } });
  assert.equal(await job.result({ timeoutMs: WAIT_MS }), 3);
  assert.equal((await job.status()).status, "succeeded");
  const events = await collect(await job.events());
  assert.deepEqual(events.filter(({ name }) => name === "output").map(({ data }) => data), [0, 1, 2, 3]);
  const rest = await collect(await job.events({ after: events.at(-2).id }));
  assert.deepEqual(rest.map(({ data }) => data), [3]);
});

test("leaving the events of a submitted job does not cancel it", async () => {
  const job = await client.submit("/numbers", { input: { n: 1000 } });
  for await (const _ of await job.events()) break;
  assert.equal((await job.result({ timeoutMs: WAIT_MS })).n, 999);
});

test("a stream that was read to its end ends at once", async () => {
  const job = await client.submit("/steps");
  await job.result();
  const events = await collect(await job.events());
  const again = await job.events({ after: `${job.id}:1.${Number(events.at(-1).id.split(".")[1]) + 1}` });
  assert.deepEqual(await collect(again), []);
});

test("a cancelled job says so", async () => {
  const job = await client.submit("/sleep", { input: { seconds: 60 } });
  assert.equal((await job.cancel()).status, "cancelled");
  assert.equal((await job.status()).error.code, "cancelled");
  await assert.rejects(job.result(), { code: "cancelled" });
});

test("the result of a job that takes too long is not waited for", async () => {
  const job = await client.submit("/sleep", { input: { seconds: 60 } });
  await assert.rejects(job.result({ timeoutMs: 200 }), { code: "deadline_exceeded" });
  assert.equal((await job.cancel()).status, "cancelled");
});

test("a job that is not there is not found", async () => {
  const job = client.job("0".repeat(32));
  await assert.rejects(job.status(), { code: "job_not_found", status: 404 });
  await assert.rejects(job.events(), { code: "job_not_found" });
});

test("subscribe tells states and logs, and returns the result", async () => {
  const updates = [];
  const result = await client.subscribe("/steps", { logs: true, onQueueUpdate: (status) => updates.push(status) });
  assert.equal(result, 2);
  const lines = updates.flatMap(({ logs }) => logs.map(({ message }) => message));
  assert.deepEqual(lines, ["step 0", "step 1", "step 2"]);
  assert.equal(updates.at(-1).status, "succeeded");
});

test("a subscription is one request and one stream", async (t) => {
  const { mock } = t.mock.method(globalThis, "fetch");
  const updates = [];
  const onQueueUpdate = (status) => updates.push(status);
  assert.equal(await client.subscribe("/steps", { input: { n: 100 }, logs: true, onQueueUpdate }), 99);
  const jobId = updates[0].job_id;
  const sent = mock.calls.map(({ arguments: [sentTo, { method }] }) => `${method} ${new URL(sentTo).pathname}`);
  assert.deepEqual(sent, ["POST /steps", `GET /jobs/${jobId}/events`]);
  assert.equal(updates.flatMap(({ logs }) => logs).length, 100);
  const states = [...new Set(updates.map(({ status }) => status))];
  assert.deepEqual(states.slice(-2), ["running", "succeeded"]);
  assert.deepEqual({ ...updates.at(-1), last_event_id: "" }, { ...(await client.job(jobId).status()), last_event_id: "" });
});

test("subscribe returns null where there is no value", async () => {
  assert.equal(await client.subscribe("/echo"), null);
});

test("the result of a text is all of it", async () => {
  assert.equal(await client.subscribe("/text"), "Grüße 🙂");
  assert.equal(await (await client.submit("/text")).result(), "Grüße 🙂");
});

test("subscribe throws what the job failed with", async () => {
  await assert.rejects(client.subscribe("/lines", { input: { fails: true } }), { code: "endpoint_failed" });
  await assert.rejects(client.subscribe("/lines", { input: { fails: true }, logs: true }), { code: "endpoint_failed" });
});

test("a subscription that is left cancels its job", async () => {
  let jobId;
  const onQueueUpdate = (status) => { jobId = status.job_id; };
  const call = client.subscribe("/sleep", { input: { seconds: 60 }, onQueueUpdate, timeoutMs: 3000 });
  await assert.rejects(call, { code: "deadline_exceeded" });
  assert.equal((await client.job(jobId).status()).status, "cancelled");
});

test("an endpoint's own answer is read as it comes", async () => {
  const response = await client.fetch("/own", { input: { text: "Grüße" } });
  assert.match(response.headers.get("Content-Type"), /^text\/csv/);
  assert.equal(await response.text(), "Grüße,Grüße");
});

test("an endpoint's own answer that tells an error is thrown", async () => {
  await assert.rejects(client.fetch("/own", { input: { text: 1 } }), { code: "invalid_input", status: 422 });
  await assert.rejects(client.fetch("/own", { input: { status: 404 } }), { code: "not_found", message: /x,x/ });
  const [signal, reason] = [new AbortController(), new Error("enough")];
  signal.abort(reason);
  await assert.rejects(client.fetch("/own", { signal: signal.signal }), reason);
});

// Integers beyond what a number holds

const LARGE = 12345678901234567890n;
const exact = new Client(url, { largeIntegers: "bigint" });

test("a BigInt in an input arrives as an integer, by every call", async () => {
  const input = { value: { seeds: [LARGE, -LARGE], blob: new Blob(["abc"]), n: 1 } };
  const expected = { seeds: [LARGE, -LARGE], blob: "data:application/octet-stream;base64,YWJj", n: 1 };
  assert.deepEqual(await exact.run("/echo", { input }), expected);
  assert.deepEqual(await (await exact.submit("/echo", { input })).result({ timeoutMs: WAIT_MS }), expected);
  assert.deepEqual(await exact.subscribe("/echo", { input }), expected);
  assert.match(await (await exact.fetch("/own", { input: { text: "a", status: 200n } })).text(), /^a/);
});

test("large integers come as numbers, unless BigInts were asked for", async () => {
  const input = { value: [LARGE, 7] };
  assert.deepEqual(await client.run("/echo", { input }), [12345678901234567000, 7]);
  assert.deepEqual(await exact.run("/echo", { input }), [LARGE, 7]);
  const stream = await exact.stream("/given", { input });
  const events = await collect(stream);
  assert.deepEqual(events.map(({ data }) => data), [LARGE, 7]);
  const lines = await exact.stream("/given", { input, accept: "application/x-ndjson" });
  assert.deepEqual((await collect(lines)).map(({ data }) => data), [LARGE, 7]);
});

test("what was refused is told with its exact digits", async () => {
  const error = await exact.run("/own", { input: { text: LARGE } }).catch((error) => error);
  assert.deepEqual([error.code, error.detail[0].input], ["invalid_input", LARGE]);
});
