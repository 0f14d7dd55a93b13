/** Servers and proxies that do what ours does only at times. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "streamapp-client";

import { JOB, JSON_ANSWER, serving, STREAM } from "./serving.js";
import { WAIT_MS } from "./waiting.js";

const busy = (response) => response.writeHead(429, { "Retry-After": "0" }).end('{"error":{"code":"queue_full","message":"full","retryable":true}}');

test("a busy server is asked again, under the same key", async (t) => {
  const answer = (response) => response.writeHead(200, STREAM).end("event: output\nid: 1\ndata: 7\n\n");
  const { url, requests } = await serving(t, busy, busy, answer);
  assert.equal(await (await new Client(url).stream("/stream")).done(), 7);
  assert.equal(requests.length, 3);
  assert.equal(new Set(requests.map(({ headers }) => headers["idempotency-key"])).size, 1);
  assert.equal(requests[0].headers["streamapp-resume"], "10");
});

test("what came before a restart is no result", async (t) => {
  const blocks = 'event: output\nid: 1\ndata: 7\n\nevent: restarted\nid: 2\ndata: {"attempt":2}\n\n';
  const { url } = await serving(t, (response) => response.writeHead(200, STREAM).end(blocks), (response) => response.writeHead(204).end());
  assert.equal(await (await new Client(url).stream("/stream")).done(), undefined);
});

test("a busy server is not waited for longer than it is worth", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(503, { "Retry-After": "60" }).end());
  await assert.rejects(new Client(url).run("/echo"), { code: "unavailable", status: 503, retryAfter: 60 });
});

test("a proxy that waited too long is asked again, but not to run what it waited for", async (t) => {
  const late = (response) => response.writeHead(504, { "X-Streamapp-Job-Id": JOB }).end('{"error":{"code":"deadline_exceeded","message":"late"}}');
  const { url, requests } = await serving(t, (response) => response.writeHead(504).end("<h1>Gateway Timeout"), late);
  await assert.rejects(new Client(url).job(JOB).status(), { code: "deadline_exceeded", retryable: false });
  assert.equal(requests.length, 2);
  const proxy = await serving(t, (response) => response.writeHead(504).end());
  await assert.rejects(new Client(proxy.url).run("/echo"), { code: "unavailable", status: 504, retryable: true });
  assert.equal(proxy.requests.length, 1);
});

for (const call of ["submit", "subscribe"]) {
  test(`a job that the server takes while ${call} is left is cancelled`, async (t) => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const take = (response) => {
      controller.abort(reason);
      response.writeHead(202, JSON_ANSWER).end(`{"job_id":"${JOB}"}`);
    };
    const { url, requests } = await serving(t, take, (response) => response.end("{}"));
    await assert.rejects(new Client(url)[call]("/stream", { signal: controller.signal }), reason);
    assert.deepEqual(requests.map(({ url }) => url), ["/stream", `/jobs/${JOB}/cancel`]);
    await assert.rejects(new Client(url)[call]("/stream", { signal: controller.signal }), reason);
    assert.equal(requests.length, 2);
  });
}

test("a server that does not say whether it took a job keeps nobody", { timeout: WAIT_MS }, async (t) => {
  const { timeout } = AbortSignal;
  t.mock.method(AbortSignal, "timeout", () => timeout.call(AbortSignal, 1)); // of 2 s
  const controller = new AbortController();
  const { url } = await serving(t, () => controller.abort());
  await assert.rejects(new Client(url).subscribe("/stream", { signal: controller.signal }), { name: "AbortError" });
});

test("a job that took longer than Node waits is not run again", async (t) => {
  const cause = Object.assign(new Error("Headers Timeout Error"), { code: "UND_ERR_HEADERS_TIMEOUT" });
  const { mock } = t.mock.method(globalThis, "fetch", () => Promise.reject(new TypeError("fetch failed", { cause })));
  await assert.rejects(new Client("http://127.0.0.1").run("/echo"), { code: "connection_failed", retryable: false });
  assert.equal(mock.callCount(), 1);
});

test("a job that failed is not run again", async (t) => {
  const failed = (response) => response.writeHead(503, { "X-Streamapp-Job-Id": JOB }).end('{"detail":"out","error_type":"out_of_memory"}');
  const { url, requests } = await serving(t, failed);
  await assert.rejects(new Client(url).stream("/stream"), { code: "out_of_memory", jobId: JOB, message: "out" });
  assert.equal(requests.length, 1);
});

test("a stream that falls silent is resumed behind its last event", async (t) => {
  const silent = (response) => response.writeHead(200, STREAM).write(`event: output\nid: ${JOB}:1.1\ndata: 1\n\n`);
  const rest = (response) => response.writeHead(200, STREAM).end(`event: output\nid: ${JOB}:1.2\ndata: 2\n\nevent: done\nid: ${JOB}:1.3\ndata: {}\n\n`);
  const { url, requests } = await serving(t, silent, rest);
  const stream = await new Client(url, { silenceMs: 2000 }).stream("/stream");
  assert.equal(await stream.done(), 2);
  assert.equal(stream.reconnects, 1);
  assert.equal(requests[1].url, `/jobs/${JOB}/events?_events=named`);
  assert.equal(requests[1].headers["last-event-id"], `${JOB}:1.1`);
});

// A subscription: its submission, and what its stream is made of.

const accepted = (response) => response.writeHead(202, JSON_ANSWER).end(JSON.stringify(state("queued", 1)));
const block = (name, data, n) => `event: ${name}\n${n === undefined ? "" : `id: ${JOB}:1.${n}\n`}data: ${JSON.stringify(data)}\n\n`;
const streaming = (...blocks) => (response) => response.writeHead(200, STREAM).end(blocks.join(""));
const line = (message, n) => block("log", { message, level: "INFO", source: "app" }, n);
const FOLLOWED = `/jobs/${JOB}/events?_events=all&_events=named`;
const STARTED = block("started", { attempt: 1 }, 1);
const DONE = block("done", {}, 9);

function state(status, position = 0, more = {}) {
  const isOver = status !== "queued" && status !== "running";
  const times = { created_at: 1, started_at: status === "queued" ? null : 2, finished_at: isOver ? 3 : null };
  return { job_id: JOB, status, position, ...times, ...more };
}

async function subscribe(url, options) {
  const updates = [];
  const tell = ({ status, position, logs }) => updates.push([status, position, ...logs.map(({ message }) => message)]);
  const result = await new Client(url).subscribe("/work", { onQueueUpdate: tell, ...options });
  return { result, updates };
}

test("a subscription is told state, place and lines by one stream", async (t) => {
  const waits = [block("job", state("queued", 1), 0), block("job", state("queued"))];
  const runs = [block("job", state("running")), STARTED, line("a", 2), block("output", 7, 3)];
  // The state at the end stands before the last events.
  const ends = [block("job", state("succeeded")), line("b", 4), DONE];
  const { url, requests } = await serving(t, accepted, streaming(...waits, ...runs, ...ends));
  const { result, updates } = await subscribe(url, { logs: true });
  assert.equal(result, 7);
  const running = [["running", 0], ["running", 0, "a"], ["running", 0, "b"]];
  assert.deepEqual(updates, [["queued", 1], ["queued", 0], ...running, ["succeeded", 0]]);
  assert.deepEqual(requests.map(({ url }) => url), ["/work", FOLLOWED]);
});

test("a subscription that is cut is told nothing twice", async (t) => {
  const first = streaming(block("job", state("running"), 0), STARTED, line("a", 2), block("output", 7, 3));
  const rest = streaming(block("job", state("running")), line("b", 4), block("job", state("succeeded")), DONE);
  const { url, requests } = await serving(t, accepted, first, rest);
  const { result, updates } = await subscribe(url, { logs: true });
  assert.equal(result, 7);
  assert.deepEqual(updates, [["running", 0], ["running", 0, "a"], ["running", 0, "b"], ["succeeded", 0]]);
  assert.deepEqual(requests.slice(1).map(({ headers }) => headers["last-event-id"]), [`${JOB}:1.0`, `${JOB}:1.3`]);
});

test("of a job that was over before it was looked at is told that it ran", async (t) => {
  const { url } = await serving(t, accepted, streaming(block("job", state("succeeded"), 0), STARTED, DONE));
  assert.deepEqual(await subscribe(url), { result: null, updates: [["running", 0], ["succeeded", 0]] });
});

test("a job that begins anew waits and runs again", async (t) => {
  const lost = [block("job", state("running"), 0), STARTED, block("output", 1, 2), block("job", state("queued"))];
  const again = [block("job", state("running")), block("restarted", { attempt: 2 }, 3), block("job", state("succeeded"))];
  const { url } = await serving(t, accepted, streaming(...lost, ...again, DONE));
  const { result, updates } = await subscribe(url);
  assert.equal(result, null);
  assert.deepEqual(updates.map(([status]) => status), ["running", "queued", "running", "succeeded"]);
});

test("a subscription is told what its job failed with, and throws it", async (t) => {
  const said = { error: { code: "endpoint_failed", message: "Boom.", retryable: false } };
  const blocks = [block("job", state("running"), 0), STARTED, block("job", state("failed", 0, said)), block("error", said, 2)];
  const failed = (response) => response.writeHead(500, { "X-Streamapp-Job-Id": JOB }).end(JSON.stringify(said));
  const { url, requests } = await serving(t, accepted, streaming(...blocks), failed);
  const updates = [];
  const call = new Client(url).subscribe("/work", { onQueueUpdate: (status) => updates.push(status) });
  await assert.rejects(call, { code: "endpoint_failed", status: 500 });
  assert.equal(updates.at(-1).error.message, "Boom.");
  assert.deepEqual(requests.slice(0, 3).map(({ url }) => url), ["/work", FOLLOWED, `/jobs/${JOB}/result`]);
});

test("an older server says by its first event that a job runs, and is asked at the end", async (t) => {
  const older = block("job", { job_id: JOB, status: "queued", position: 1 }, 0);
  const ended = (response) => response.writeHead(200, JSON_ANSWER).end(JSON.stringify(state("succeeded")));
  const { url, requests } = await serving(t, accepted, streaming(older, line("a", 1), block("output", 7, 2), DONE), ended);
  const { result, updates } = await subscribe(url, { logs: true });
  assert.equal(result, 7);
  assert.deepEqual(updates, [["queued", 1], ["running", 0], ["running", 0, "a"], ["succeeded", 0]]);
  assert.deepEqual(requests.map(({ url }) => url), ["/work", FOLLOWED, `/jobs/${JOB}`]);
});

test("what onQueueUpdate throws ends the subscription, and its job", async (t) => {
  const reason = new Error("mine");
  const runs = (response) => response.writeHead(200, STREAM).write(block("job", state("running"), 0));
  const { url, requests } = await serving(t, accepted, runs, (response) => response.end("{}"));
  await assert.rejects(subscribe(url, { onQueueUpdate: () => { throw reason; } }), reason);
  assert.equal(requests.at(-1).url, `/jobs/${JOB}/cancel`);
});

test("connections that bring nothing but the state are no progress", { timeout: WAIT_MS }, async (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const cut = (response) => { now += 20_000; streaming(block("job", state("queued", 1), 0))(response); };
  const { url, requests } = await serving(t, accepted, cut);
  await assert.rejects(subscribe(url), { code: "unexpected_answer" }); // of the job, which is asked for then
  assert.deepEqual(requests.slice(-3).map(({ url }) => url), [FOLLOWED, `/jobs/${JOB}`, `/jobs/${JOB}/cancel`]);
});

test("a silent job is waited for as long as its connections live", async (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const cuts = [];
  const silent = (response) => {
    response.writeHead(200, STREAM).flushHeaders();
    cuts.push(() => { now += 60_000; response.end(": ping\n\n"); });
  };
  const rest = (response) => response.writeHead(200, STREAM).end(`event: output\nid: ${JOB}:1.1\ndata: 7\n\nevent: done\nid: ${JOB}:1.2\ndata: {}\n\n`);
  const { url } = await serving(t, silent, silent, silent, rest);
  const stream = await new Client(url).stream("/stream");
  const liveAndCut = () => cuts.shift()?.();
  stream.on("reconnected", liveAndCut);
  liveAndCut();
  assert.equal(await stream.done(), 7);
  assert.equal(stream.reconnects, 3);
});

test("a value that falls silent is asked for again", { timeout: WAIT_MS }, async (t) => {
  const silent = (response) => response.writeHead(200, JSON_ANSWER).write("[");
  const { url, requests } = await serving(t, silent, (response) => response.writeHead(200, JSON_ANSWER).end('["ä"]'));
  assert.deepEqual(await new Client(url, { silenceMs: 2000 }).job(JOB).result(), ["ä"]);
  assert.equal(requests.length, 2);
});

test("a refusal whose body falls silent is told by its status", { timeout: WAIT_MS }, async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(403).write("<h1>"));
  await assert.rejects(new Client(url, { silenceMs: 2000 }).stream("/stream"), { code: "unauthorized", message: "HTTP 403 Forbidden: " });
});

test("listeners are told when the connection is lost, and when it is back", async (t) => {
  const half = (response) => response.writeHead(200, STREAM).write(`event: output\nid: ${JOB}:1.1\ndata: 1\n\n`, () => response.destroy());
  const rest = (response) => response.writeHead(200, STREAM).end(`event: done\nid: ${JOB}:1.2\ndata: {}\n\n`);
  const { url } = await serving(t, half, rest);
  const stream = await new Client(url).stream("/stream");
  const told = [];
  stream.on("reconnecting", () => told.push("reconnecting")).on("reconnected", () => told.push("reconnected"));
  assert.equal(await stream.done(), 1);
  assert.deepEqual(told, ["reconnecting", "reconnected"]);
});

test("an event may have any name", async (t) => {
  const answer = (response) => response.writeHead(200, STREAM).end("event: constructor\nid: 1\ndata: 7\n\n");
  const { url } = await serving(t, answer);
  assert.equal(await (await new Client(url).stream("/stream")).done(), 7);
});

test("a stream without an event is not taken for a result", async (t) => {
  const empty = (response) => response.writeHead(200, STREAM).end();
  const { url, requests } = await serving(t, empty, (response) => response.writeHead(204).end());
  assert.equal(await (await new Client(url).stream("/stream")).done(), undefined);
  assert.equal(requests[1].headers["last-event-id"], `${JOB}:1.0`);
});

test("a stream that ends after progress alone is no success, unless its job says so", async (t) => {
  const passing = (name) => `event: ${name}\nid: ${JOB}:1.1\ndata: {"step":1}\n\n`;
  for (const name of ["progress", "preview", "log", "lagged", "restarted"]) {
    const rest = (response) => response.writeHead(200, STREAM).end(`event: output\nid: ${JOB}:1.2\ndata: 2\n\nevent: done\nid: ${JOB}:1.3\ndata: {}\n\n`);
    const { url, requests } = await serving(t, streaming(passing(name)), rest);
    assert.equal(await (await new Client(url).stream("/stream")).done(), 2);
    assert.equal(requests[1].headers["last-event-id"], `${JOB}:1.1`);
    const over = await serving(t, streaming(passing(name)), (response) => response.writeHead(204).end());
    assert.equal(await (await new Client(over.url).stream("/stream")).done(), undefined);
    const jobless = await serving(t, (response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end(passing(name)));
    await assert.rejects(new Client(jobless.url).stream("/stream").then((stream) => stream.done()), { code: "stream_interrupted", retryable: true });
    assert.equal(jobless.requests.length, 1);
  }
});

test("a result may be null, and progress may follow it", async (t) => {
  const { url, requests } = await serving(t, streaming(block("output", null, 1), block("progress", { step: 1 }, 2)));
  assert.equal(await (await new Client(url).stream("/stream")).done(), null);
  assert.equal(requests.length, 1);
});

test("a stream without an event or a job is asked for again, and given up", async (t) => {
  const { url, requests } = await serving(t, (response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end());
  const stream = await new Client(url, { patienceMs: 300 }).stream("/stream");
  await assert.rejects(stream.done(), { code: "stream_interrupted" });
  assert.equal(new Set(requests.map(({ headers }) => headers["idempotency-key"])).size, 1);
});

test("a stream that ends inside an event is resumed", async (t) => {
  const half = (response) => response.writeHead(200, STREAM).end(`event: output\nid: ${JOB}:1.1\ndata: 1\n\nevent: output\nid: ${JOB}:1.2\nda`);
  const rest = (response) => response.writeHead(200, STREAM).end(`event: output\nid: ${JOB}:1.2\ndata: 2\n\nevent: done\nid: ${JOB}:1.3\ndata: {}\n\n`);
  const { url, requests } = await serving(t, half, rest);
  assert.equal(await (await new Client(url).stream("/stream")).done(), 2);
  assert.equal(requests[1].headers["last-event-id"], `${JOB}:1.1`);
});

test("the last line needs no line end", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, { "Content-Type": "application/x-ndjson" }).end("1\n2"));
  assert.equal(await (await new Client(url).stream("/stream", { accept: "application/x-ndjson" })).done(), 2);
});

test("plain text, which has no heartbeats, may say nothing for 11 minutes", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, { "Content-Type": "text/plain" }).write("a"));
  const stream = await new Client(url).stream("/stream", { accept: "text/plain" });
  const events = stream[Symbol.asyncIterator]();
  assert.equal((await events.next()).value.data, "a");
  const { setTimeout } = globalThis;
  const timers = new Map();
  t.mock.method(globalThis, "setTimeout", (act, ms) => { timers.set(ms, act); return setTimeout(act, ms); });
  const next = events.next();
  await new Promise(setImmediate);
  assert.ok(!timers.has(45_000));
  timers.get(660_000)();
  await assert.rejects(next, { code: "stream_interrupted", message: /no heartbeat came/ });
});

test("only a stream that can be resumed asks the server to keep its job", async (t) => {
  const { url, requests } = await serving(t, (response) => response.writeHead(204).end());
  for (const accept of ["application/x-ndjson", "text/plain", "text/event-stream"]) await new Client(url).stream("/stream", { accept });
  assert.deepEqual(requests.map(({ headers }) => headers["streamapp-resume"]), [undefined, undefined, "10"]);
});

test("an answer byte by byte is read", async (t) => {
  const bytes = Buffer.from(`\ufeffevent: output\r\nid: ${JOB}:1.1\r\ndata: {"text":\r\ndata: "ä€🙂"}\r\n\r\n`);
  const drip = async (response) => {
    response.writeHead(200, STREAM);
    for (const byte of bytes) await new Promise((resolve) => response.write(Buffer.of(byte), resolve));
    response.end();
  };
  const { url } = await serving(t, drip);
  assert.deepEqual(await (await new Client(url).stream("/stream")).done(), { text: "ä€🙂" });
});

test("Infinity is no limit", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, JSON_ANSWER).end("7"));
  const client = new Client(url, { patienceMs: Infinity, silenceMs: Infinity });
  assert.equal(await client.run("/echo", { timeoutMs: Infinity }), 7);
});

// Answers that leave a stream waiting before its next try: the first is cut, all others too.
const FIRST = (response) => response.writeHead(200, STREAM).write(`retry: 8000\nevent: output\nid: ${JOB}:1.1\ndata: 1\n\n`, () => response.destroy());
const LOST = [FIRST, (response, request) => (request.url.endsWith("/cancel") ? response.end("{}") : response.destroy())];

async function lost(t, options) {
  const { url, requests } = await serving(t, ...LOST);
  const stream = await new Client(url).stream("/stream", options);
  const events = stream[Symbol.asyncIterator]();
  assert.equal((await events.next()).value.data, 1);
  return { stream, next: events.next(), events, requests };
}

test("a stream that waits to come back can be aborted", async (t) => {
  const controller = new AbortController();
  const { stream, next } = await lost(t, { signal: controller.signal });
  const reason = new Error("enough");
  controller.abort(reason);
  await assert.rejects(next, reason);
  await assert.rejects(stream.done(), reason);
});

test("a loop whose stream waits to come back can be left", async (t) => {
  const { stream, next, events, requests } = await lost(t);
  await events.return();
  assert.deepEqual(await next, { done: true, value: undefined });
  await assert.rejects(stream.done(), { code: "cancelled" });
  assert.equal(requests.at(-1).url, `/jobs/${JOB}/cancel`);
});

test("a stream whose error nobody waits for is no unhandled rejection", async (t) => {
  const unhandled = [];
  const note = (reason) => unhandled.push(reason);
  process.on("unhandledRejection", note);
  t.after(() => process.off("unhandledRejection", note));
  const fails = (response) => response.writeHead(200, STREAM).end('event: error\nid: 1\ndata: {"error":{"code":"endpoint_failed","message":"no"}}\n\n');
  const { url } = await serving(t, fails);
  const open = () => new Client(url).stream("/stream");
  await open(); // read by nobody
  (await open()).done(); // not awaited
  (await open()).cancel();
  await (async () => { for await (const _ of await open()); })().catch(() => {}); // done() not asked
  const told = await new Promise((resolve) => open().then((stream) => stream.on("error", resolve)));
  assert.equal(told.code, "endpoint_failed");
  await new Promise((resolve) => setTimeout(resolve, 1)); // rejections are reported after the microtasks
  assert.deepEqual(unhandled, []);
});

test("a job that is gone interrupts its stream", async (t) => {
  const cut = (response) => response.writeHead(200, STREAM).write("event: output\nid: 1\ndata: 1\n\n", () => response.destroy());
  const { url } = await serving(t, cut, (response) => response.writeHead(404).end("{}"));
  const stream = await new Client(url).stream("/stream");
  await assert.rejects(stream.done(), { code: "stream_interrupted", jobId: JOB });
});

test("an event that is not JSON says what came", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(200, STREAM).end("data: [DONE]\n\n"));
  const stream = await new Client(url).stream("/stream");
  await assert.rejects(stream.done(), { code: "unexpected_answer", message: /\[DONE\]/ });
});

test("a proxy's page is quoted", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(403).end("<h1>no</h1>"));
  await assert.rejects(new Client(url).run("/echo"), { code: "unauthorized", message: /HTTP 403 Forbidden: <h1>no/ });
});

// Answers without an end, or without a bottom.

/** Write pieces until the reader hangs up. */
const endless = (type, piece) => (response, request) => {
  if (request.url.endsWith("/cancel")) return response.end("{}");
  response.writeHead(200, { ...STREAM, "Content-Type": type });
  const write = () => { while (response.write(piece)); };
  response.on("drain", write);
  write();
};

for (const [what, type, piece] of [
  ["an event of one line", "text/event-stream", "x".repeat(2 ** 20)],
  ["an event of many lines", "text/event-stream", `data: ${"x".repeat(2 ** 20)}\n`],
  ["a line", "application/x-ndjson", "x".repeat(2 ** 20)],
]) {
  test(`${what} without an end is refused, and its job cancelled`, { timeout: WAIT_MS }, async (t) => {
    const { url, requests } = await serving(t, endless(type, piece));
    const stream = await new Client(url).stream("/stream", { accept: type });
    await assert.rejects(stream.done(), { code: "unexpected_answer", retryable: false, message: /at most 134217728 characters/ });
    assert.deepEqual(requests.map(({ url }) => url), ["/stream", `/jobs/${JOB}/cancel`]);
  });
}

test("an answer without an end is refused, and not asked for again", { timeout: WAIT_MS }, async (t) => {
  const { url, requests } = await serving(t, endless("application/json", "x".repeat(2 ** 20)));
  await assert.rejects(new Client(url).run("/echo"), { code: "unexpected_answer", message: /an answer of at most/ });
  assert.equal(requests.length, 1);
});

const DEEP = "[".repeat(100_000) + "12345678901234567890" + "]".repeat(100_000);

test("JSON that is too deep to be read is told as an unexpected answer", async (t) => {
  const json = await serving(t, (response) => response.writeHead(200, JSON_ANSWER).end(DEEP));
  await assert.rejects(new Client(json.url, { largeIntegers: "bigint" }).run("/echo"), { code: "unexpected_answer", message: /call stack/ });
  const events = await serving(t, (response) => response.writeHead(200, STREAM).end(`event: error\ndata: ${DEEP}\n\n`));
  const failed = async (options) => (await new Client(events.url, options).stream("/stream")).done();
  await assert.rejects(failed({ largeIntegers: "bigint" }), { code: "unexpected_answer" });
  await assert.rejects(failed(), { code: "refused", jobId: JOB });
  const refused = await serving(t, (response) => response.writeHead(400).end(DEEP));
  await assert.rejects(new Client(refused.url, { largeIntegers: "bigint" }).run("/echo"), { code: "malformed_request" });
});

test("what is called __proto__ stays a key, and teaches nothing else", async (t) => {
  const body = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"seed":12345678901234567890}';
  const { url } = await serving(t, (response) => response.writeHead(200, JSON_ANSWER).end(body));
  for (const largeIntegers of ["number", "bigint"]) {
    const value = await new Client(url, { largeIntegers }).run("/echo");
    assert.deepEqual([Object.keys(value)[0], {}.polluted, value.polluted], ["__proto__", undefined, undefined]);
  }
});

test("an answer without a job's id is no job", async (t) => {
  for (const body of ["null", "7", "{}", '{"job_id":7}']) {
    const { url, requests } = await serving(t, (response) => response.writeHead(200, JSON_ANSWER).end(body));
    await assert.rejects(new Client(url).submit("/echo"), { code: "unexpected_answer", message: /Expected a job/ });
    assert.equal(requests.length, 1);
  }
});
