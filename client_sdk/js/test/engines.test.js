/** Engines that lack what browsers and Node have: React Native, older browsers. */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";

import { Client } from "streamapp-client";

import { JOB, JSON_ANSWER, serving, STREAM } from "./serving.js";
import { source } from "./source.js";
import { talking } from "./talking.js";

const { SSEDecoder } = await source("decoder");
const EVENTS = `event: progress\nid: ${JOB}:1.1\ndata: {"step":1}\n\nevent: output\nid: ${JOB}:1.2\ndata: "é"\n\n`;

/** Take something of the engine away until the test is over. */
function lacking(t, owner, name) {
  const before = Object.getOwnPropertyDescriptor(owner, name);
  delete owner[name];
  t.after(() => Object.defineProperty(owner, name, before));
}

/** Answer as React Native does: whole, once all of it has come, and by nothing but text. */
function bodiless(t) {
  const { fetch } = globalThis;
  lacking(t, Response.prototype, "body");
  t.mock.method(globalThis, "fetch", async (url, { redirect, ...options }) => {
    const response = await fetch(url, options);
    const text = await response.text();
    const { ok, status, statusText, headers } = response;
    return { ok, status, statusText, headers, url: response.url, text: async () => text };
  });
}

function olderSignals(t) {
  for (const name of ["any", "timeout"]) lacking(t, AbortSignal, name);
  for (const name of ["throwIfAborted", "reason"]) lacking(t, AbortSignal.prototype, name);
}

/** React Native as a whole, as far as this client looks at it. */
function reactNative(t) {
  bodiless(t);
  olderSignals(t);
  for (const name of ["crypto", "TextDecoder", "structuredClone"]) lacking(t, globalThis, name);
  for (const name of ["set", "append"]) lacking(t, URLSearchParams.prototype, name);
}

const LACKS = {
  "a body": bodiless,
  crypto: (t) => lacking(t, globalThis, "crypto"),
  "AbortSignal.any": (t) => lacking(t, AbortSignal, "any"),
  "AbortSignal.timeout": (t) => lacking(t, AbortSignal, "timeout"),
  "reasons of signals": olderSignals,
  "all that React Native lacks": reactNative,
};

for (const [name, lack] of Object.entries(LACKS)) {
  test(`without ${name} a stream is read`, async (t) => {
    const { url, requests } = await serving(t, (response) => response.writeHead(200, STREAM).end(EVENTS));
    lack(t);
    const events = [];
    const stream = await new Client(url).stream("/stream");
    for await (const { name, data } of stream) events.push([name, data]);
    assert.deepEqual(events, [["progress", { step: 1 }], ["output", "é"]]);
    assert.deepEqual([await stream.done(), stream.jobId, stream.reconnects, requests.length], ["é", JOB, 0, 1]);
  });

  test(`without ${name} values come, and jobs run`, async (t) => {
    const json = (status, value) => (response) => response.writeHead(status, JSON_ANSWER).end(JSON.stringify(value));
    const { url, requests } = await serving(t, json(200, "é"), json(202, { job_id: JOB }), json(409, { error: { code: "job_unfinished" } }), json(200, 7));
    lack(t);
    const client = new Client(url);
    assert.equal(await client.run("/echo", { timeoutMs: 60_000 }), "é");
    assert.equal(await (await client.submit("/echo", { timeoutMs: 60_000 })).result(), 7);
    const keys = requests.slice(0, 2).map(({ headers }) => headers["idempotency-key"]);
    assert.equal(new Set(keys).size, 2);
    assert.match(keys[0], /^\d+-\d+-\d+-\d+$/);
  });

  test(`without ${name} limits hold, and a left job is cancelled`, async (t) => {
    const { url, requests } = await serving(t, (response) => response.writeHead(202, JSON_ANSWER).end(`{"job_id":"${JOB}"}`), (_, { url }) => url.endsWith("/cancel") || controller.abort(reason));
    lack(t);
    const controller = new AbortController();
    const reason = new Error("enough");
    const call = new Client(url).subscribe("/stream", { signal: controller.signal });
    await assert.rejects(call, (error) => error === reason || error.name === "AbortError");
    assert.equal(requests.at(-1).url, `/jobs/${JOB}/cancel`);
    const late = await serving(t, () => {});
    await assert.rejects(new Client(late.url).run("/echo", { timeoutMs: 50 }), { code: "deadline_exceeded" });
    await assert.rejects(new Client(late.url).stream("/echo", { timeoutMs: 50, signal: new AbortController().signal }), { code: "deadline_exceeded" });
  });
}

test("without a body a subscription is told all of its job, at the end", async (t) => {
  const accepted = (response) => response.writeHead(202, JSON_ANSWER).end(`{"job_id":"${JOB}"}`);
  const state = (status) => `event: job\ndata: {"job_id":"${JOB}","status":"${status}","position":0,"created_at":1}\n\n`;
  const blocks = `${state("running")}event: output\nid: ${JOB}:1.2\ndata: 7\n\n${state("succeeded")}event: done\nid: ${JOB}:1.3\ndata: {}\n\n`;
  const { url, requests } = await serving(t, accepted, (response) => response.writeHead(200, STREAM).end(blocks));
  reactNative(t);
  const told = [];
  assert.equal(await new Client(url).subscribe("/stream", { onQueueUpdate: ({ status }) => told.push(status) }), 7);
  assert.deepEqual(told, ["running", "succeeded"]);
  assert.equal(requests.length, 2);
});

test("without Response in sight a stream is read", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, STREAM).end(EVENTS));
  const stream = async () => (await new Client(url).stream("/stream")).done();
  await stream(); // Node's fetch is made with it
  lacking(t, globalThis, "Response");
  assert.equal(await stream(), "é");
});

test("a Blob without arrayBuffer() is read by a FileReader", async (t) => {
  const { url, requests } = await serving(t, (response, request) => request.pipe(response.writeHead(200, JSON_ANSWER)));
  lacking(t, Blob.prototype, "arrayBuffer");
  globalThis.FileReader = class {
    readAsDataURL(blob) {
      new Response(blob.stream()).text().then((text) => { this.result = `data:${blob.type};base64,${btoa(text)}`; this.onload(); }, (error) => { this.error = error; this.onerror(); });
    }
  };
  t.after(() => delete globalThis.FileReader);
  assert.deepEqual(await new Client(url).run("/", { input: [new Blob(["abc"], { type: "image/png" })] }), ["data:image/png;base64,YWJj"]);
  t.mock.method(Response.prototype, "text", () => Promise.reject(new Error("gone")));
  await assert.rejects(new Client(url).run("/", { input: new Blob() }), /gone/);
  assert.equal(requests.length, 1);
});

test("calls leave nothing at a signal that outlives them", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, JSON_ANSWER).end("7"));
  lacking(t, AbortSignal, "any");
  const { signal } = new AbortController();
  for (let n = 0; n < 3; n++) await new Client(url).run("/", { signal });
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("lines and text are read without a body", async (t) => {
  const { url } = await serving(t, (response, { headers }) => response.writeHead(200, { "Content-Type": headers.accept }).end("1\n2"));
  bodiless(t);
  assert.equal(await (await new Client(url).stream("/", { accept: "application/x-ndjson" })).done(), 2);
  assert.equal(await (await new Client(url).stream("/", { accept: "text/plain" })).done(), "1\n2");
});

test("a stream that comes whole may say nothing for 11 minutes before", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, STREAM).end(EVENTS));
  bodiless(t);
  const { setTimeout } = globalThis;
  const times = [];
  t.mock.method(globalThis, "setTimeout", (act, ms) => { times.push(ms); return setTimeout(act, ms); });
  await (await new Client(url).stream("/stream")).done();
  assert.ok(!times.includes(45_000) && times.includes(660_000));
});

test("a whole stream that was cut off is resumed", async (t) => {
  const half = (response) => response.writeHead(200, STREAM).end(EVENTS.slice(0, -10));
  const rest = (response) => response.writeHead(200, STREAM).end(`${EVENTS}event: done\nid: ${JOB}:1.3\ndata: {}\n\n`);
  const { url, requests } = await serving(t, half, rest);
  bodiless(t);
  assert.equal(await (await new Client(url).stream("/stream")).done(), "é");
  assert.equal(requests.length, 2);
});

test("an empty answer is asked for again, not for ever", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, STREAM).end());
  bodiless(t);
  const stream = await new Client(url, { patienceMs: 300 }).stream("/stream");
  await assert.rejects(stream.done(), { code: "stream_interrupted" });
});

for (const [name, lack] of [["", () => {}], [", without a body too", bodiless]]) {
  test(`answers without content are null${name}`, async (t) => {
    const none = (status) => (response) => response.writeHead(status).end();
    const { url, requests } = await serving(t, none(204), none(205));
    lack(t);
    assert.equal(await new Client(url).run("/nothing"), null);
    assert.equal(await new Client(url).run("/nothing"), null);
    assert.equal(await (await new Client(url).stream("/nothing")).done(), undefined);
    assert.equal(requests.length, 3);
  });
}

test("a URL need know nothing but its href", async (t) => {
  const { URL } = globalThis;
  lacking(t, globalThis, "URL");
  globalThis.URL = class { constructor(...urls) { this.href = new URL(...urls).href; } };
  const headers = new Headers(JSON_ANSWER);
  const { mock } = t.mock.method(globalThis, "fetch", async () => ({ ok: true, status: 200, headers, text: async () => "7" }));
  assert.equal(await new Client("http://127.0.0.1:1/app/").run("http://127.0.0.1:1/echo"), 7);
  assert.equal(mock.calls[0].arguments[0], "http://127.0.0.1:1/echo");
});

test("the decoder takes text as it takes bytes", () => {
  const decoder = new SSEDecoder();
  assert.deepEqual([...decoder.feed("\ufeffdata: é\r"), ...decoder.feed("\n\n")], [{ name: "message", data: "é", id: "" }]);
});

test("without reasons of signals a session is talked to, and left", async (t) => {
  const { url, requests } = await talking(t, async (socket) => {
    await socket.begin();
    socket.event("output", (await socket.next()).data, 2);
  });
  olderSignals(t);
  const controller = new AbortController();
  const session = new Client(url).connect("/realtime", { signal: controller.signal, timeoutMs: 60_000 });
  session.send(1);
  session.on("output", () => controller.abort());
  await assert.rejects(session.done(), { name: "AbortError" });
  while (requests.length < 2) await new Promise(setImmediate);
  assert.equal(requests[1].url, `/jobs/${JOB}/cancel`);
});
