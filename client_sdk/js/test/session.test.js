/** Sessions with a server that misbehaves, falls silent, or is lost. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Client, StreamappError } from "streamapp-client";

import { peering } from "./peering.js";
import { JOB, serving } from "./serving.js";
import { echo, talking } from "./talking.js";

const ENDED = { code: "session_ended" };

async function collect(session) {
  const events = [];
  for await (const event of session) events.push(event);
  return events;
}

// Talking

test("inputs are answered while they are sent", async (t) => {
  const { url, requests } = await talking(t, echo);
  const session = new Client(url).connect("/realtime");
  const numbers = [];
  await session.send({ n: 1 });
  for await (const { name, data, id } of session) {
    assert.equal(name, "output");
    assert.equal(id, `${JOB}:1.${data.n + 1}`);
    numbers.push(data.n);
    if (data.n < 3) await session.send({ n: data.n + 1 });
    else session.finish();
  }
  assert.deepEqual(numbers, [1, 2, 3]);
  assert.deepEqual(await session.done(), { n: 3 });
  assert.equal(session.jobId, JOB);
  assert.equal(session.reconnects, 0);
  assert.equal(requests[0].url, "/realtime");
  assert.equal(requests[0].headers["sec-websocket-protocol"], "streamapp.v1");
});

test("inputs follow the first message at once, in their order, numbered", async (t) => {
  const frames = [];
  const { url } = await talking(t, async (socket) => {
    frames.push(...await socket.take(5));
    socket.send({ type: "session", job_id: JOB, key: "k", received: 0, resume_s: 10 });
    socket.end();
  });
  const session = new Client(url).connect("/realtime");
  session.send({ image: new Blob(["a"], { type: "image/png" }) });
  session.send(7n ** 30n);
  session.send("x");
  session.finish();
  await session.done();
  assert.deepEqual(frames.map(({ type, n }) => [type, n]), [
    ["open", undefined], ["input", 1], ["input", 2], ["input", 3], ["finish", undefined],
  ]);
  assert.equal(frames[0].resume_s, 10);
  assert.deepEqual(frames[1].data, { image: "data:image/png;base64,YQ==" });
  assert.equal(frames[3].data, "x");
});

test("an input is sent as it is when send() is called", async (t) => {
  const { url } = await talking(t, echo);
  const session = new Client(url).connect("/realtime");
  const point = { x: 1 };
  session.send(point);
  point.x = 2;
  session.send(point);
  session.finish();
  assert.deepEqual((await collect(session)).map(({ data }) => data.x), [1, 2]);
});

test("integers of any size come exactly where the client asks for it", async (t) => {
  const { url } = await talking(t, async (socket) => {
    await socket.begin();
    socket.send(`{"type":"event","event":"output","id":"${JOB}:1.2","data":${(await socket.text()).match(/"data":(.*)}/)[1]}}`);
    socket.end();
  });
  const session = new Client(url, { largeIntegers: "bigint" }).connect("/realtime");
  session.send({ seed: 12345678901234567890n });
  assert.deepEqual(await session.done(), { seed: 12345678901234567890n });
});

test("listeners hear that it is connected, what comes, and how it ends", async (t) => {
  const { url } = await talking(t, echo);
  const session = new Client(url).connect("/realtime");
  const told = [];
  session.on("connected", () => told.push(`connected ${session.jobId}`));
  session.on("output", (data) => told.push(data)).on("done", (result) => told.push(result));
  session.send(1);
  session.finish();
  await session.done();
  assert.deepEqual(told, [`connected ${JOB}`, 1, 1]);
});

test("what is wrong with one input is an event, and no result", async (t) => {
  const { url } = await talking(t, async (socket) => {
    await socket.begin();
    socket.event("output", 1, 2);
    socket.event("input_error", { error: { code: "invalid_input", message: "no" }, input: 2 }, 3);
    socket.end();
  });
  const session = new Client(url).connect("/realtime");
  assert.deepEqual((await collect(session)).map(({ name }) => name), ["output", "input_error"]);
  assert.equal(await session.done(), 1);
});

test("frames of kinds that it does not know are passed over", async (t) => {
  const { url } = await talking(t, async (socket) => {
    await socket.begin();
    socket.send({ type: "ping" }, { type: "news", data: 1 });
    socket.event("output", 1, 2);
    socket.end();
  });
  assert.equal(await new Client(url).connect("/realtime").done(), 1);
});

test("the key is in the query, behind what the path has there", async (t) => {
  const { url, requests } = await talking(t, echo);
  for (const path of ["/realtime", "/realtime?max_buffering=1"]) {
    const session = new Client(url, { key: "ä k" }).connect(path);
    session.finish();
    await session.done();
  }
  assert.deepEqual(requests.map(({ url }) => url), ["/realtime?_token=%C3%A4%20k", "/realtime?max_buffering=1&_token=%C3%A4%20k"]);
});

test("a path of another server is refused, and so is an engine without WebSocket", async (t) => {
  const client = new Client("http://127.0.0.1:1");
  assert.throws(() => client.connect("http://127.0.0.2/realtime"), TypeError);
  const { WebSocket } = globalThis;
  t.after(() => { globalThis.WebSocket = WebSocket; });
  delete globalThis.WebSocket;
  assert.throws(() => client.connect("/realtime"), /new Client\(url, { WebSocket }\)/);
});

test("a WebSocket that is given is used", async (t) => {
  const { url } = await talking(t, echo);
  class Own extends WebSocket {
    static count = 0;
    constructor(...given) { super(...given); Own.count++; }
  }
  const session = new Client(url, { WebSocket: Own }).connect("/realtime");
  session.finish();
  await session.done();
  assert.equal(Own.count, 1);
});

// Losing

test("a cut loses and doubles nothing, in either direction", async (t) => {
  const { url } = await talking(
    t,
    async (socket) => {
      await socket.begin();
      await socket.take(3);
      socket.send({ type: "received", n: 1 });
      socket.event("output", "a", 2);
      await socket.next(); // the client has the event
      socket.cut();
    },
    async (socket) => {
      assert.deepEqual(await socket.begin(2), { type: "resume", job_id: JOB, key: "k", last_event_id: `${JOB}:1.2` });
      assert.deepEqual((await socket.take(3)).map(({ type, n, data }) => n ?? type), [3, 4, "finish"]);
      socket.event("output", "b", 3);
      socket.end();
    },
  );
  const session = new Client(url).connect("/realtime");
  const told = [];
  session.on("reconnecting", ({ code }) => told.push(code)).on("reconnected", () => told.push(session.reconnects));
  for (const n of [1, 2, 3]) session.send(n);
  const seen = [];
  session.on("output", (data) => {
    seen.push(data);
    if (data === "a") { session.send(4); session.finish(); }
  });
  assert.equal(await session.done(), "b");
  assert.deepEqual(seen, ["a", "b"]);
  assert.deepEqual(told, ["connection_failed", 1]);
});

test("a socket that is cut before there is a session opens another one, with all inputs", async (t) => {
  const { url } = await talking(t, async (socket) => { await socket.take(2); socket.cut(); }, echo);
  const session = new Client(url).connect("/realtime");
  session.send(1);
  session.send(2);
  session.finish();
  assert.deepEqual((await collect(session)).map(({ data }) => data), [1, 2]);
  assert.equal(session.reconnects, 0);
});

test("an open that comes again has its key, all inputs, and no session that was begun is begun anew", async (t) => {
  const said = [];
  const { url } = await talking(
    t,
    async (socket) => { said.push(...await socket.take(2)); socket.cut(); },
    async (socket) => {
      const [open, input] = await socket.take(2);
      said.push(open, input);
      socket.send({ type: "session", job_id: JOB, key: open.key, received: 1, resume_s: 10 });
      socket.event("output", 1, 2);
      socket.cut();
    },
    async (socket) => {
      said.push(await socket.begin(1));
      socket.end();
    },
  );
  const session = new Client(url).connect("/realtime");
  session.send(1);
  assert.equal(await session.done(), 1);
  const { key } = said[0];
  assert.match(key, /^[0-9a-f]{32}$/);
  assert.deepEqual(said.map(({ type }) => type), ["open", "input", "open", "input", "resume"]);
  assert.deepEqual([said[2].key, said[4].key], [key, key]);
  const other = new Client((await talking(t, async (socket) => { said.push(await socket.begin()); socket.end(); })).url);
  await other.connect("/realtime").done();
  assert.notEqual(said.at(-1).key, key);
});

test("without numbers that nobody can guess the server draws the key", async (t) => {
  const { crypto } = globalThis;
  Object.defineProperty(globalThis, "crypto", { value: undefined, configurable: true, writable: true });
  t.after(() => Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true, writable: true }));
  let opening;
  const { url } = await talking(t, async (socket) => { opening = await socket.begin(); socket.end(); });
  await new Client(url).connect("/realtime").done();
  assert.deepEqual(opening, { type: "open", resume_s: 10 });
});

test("what is sent while the connection is lost is sent when it is back", async (t) => {
  const { url } = await talking(
    t,
    async (socket) => { await socket.begin(); socket.cut(); },
    async (socket) => {
      await socket.begin();
      assert.deepEqual((await socket.take(2)).map(({ n }) => n), [1, undefined]);
      socket.end();
    },
  );
  const session = new Client(url).connect("/realtime");
  session.on("reconnecting", () => { session.send("late"); session.finish(); });
  await session.done();
});

test("a server that says nothing counts as lost, and a ping as a word", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const sockets = [];
  class Own extends WebSocket {
    constructor(...given) { super(...given); sockets.push(this); }
  }
  let socket;
  const { url } = await talking(
    t,
    (first) => { socket = first; first.begin(); },
    async (second) => { await second.begin(); second.end(); },
  );
  const session = new Client(url, { WebSocket: Own }).connect("/realtime");
  await new Promise((resolve) => session.on("connected", resolve));
  t.mock.timers.tick(40_000);
  const heard = new Promise((resolve) => sockets[0].addEventListener("message", resolve));
  socket.send({ type: "ping" });
  await heard;
  t.mock.timers.tick(40_000);
  let lost;
  session.on("reconnecting", (error) => { lost = error; });
  await new Promise(setImmediate);
  assert.equal(lost, undefined);
  while (sockets.length < 2) {
    t.mock.timers.tick(5_000);
    await new Promise(setImmediate);
  }
  assert.match(lost.message, /no heartbeat came/);
  await session.done();
});

test("a session that the server does not know any more is interrupted", async (t) => {
  const error = { code: "job_not_found", message: "no such session", retryable: false };
  const { url } = await talking(
    t,
    async (socket) => { await socket.begin(); socket.cut(); },
    async (socket) => { await socket.next(); socket.send({ type: "refused", error }); socket.close(4404); },
  );
  const session = new Client(url).connect("/realtime");
  await assert.rejects(session.done(), { code: "stream_interrupted", jobId: JOB, message: /no such session/ });
  await assert.rejects(session.send(1), { code: "stream_interrupted" });
});

test("a refusal that may pass is asked again, and another one is thrown", async (t) => {
  const refusing = (code, retryable, close) => async (socket) => {
    await socket.next();
    socket.send({ type: "refused", error: { code, message: "not now", retryable } });
    socket.close(close);
  };
  const { url } = await talking(t, refusing("queue_full", true, 1013), echo);
  const session = new Client(url).connect("/realtime");
  session.send(1);
  session.finish();
  assert.equal(await session.done(), 1);
  const { url: other } = await talking(t, refusing("malformed_request", false, 4400));
  await assert.rejects(new Client(other).connect("/realtime").done(), { code: "malformed_request", message: "not now" });
});

test("codes by which it is useless to come back end the session", async (t) => {
  for (const [code, expected] of [[4409, "stream_interrupted"], [1009, "payload_too_large"], [1008, "unauthorized"]]) {
    const { url, requests } = await talking(t, async (socket) => { await socket.next(); socket.close(code, "because"); });
    await assert.rejects(new Client(url).connect("/realtime").done(), { code: expected, message: /because/, retryable: false });
    assert.equal(requests.length, 1);
  }
});

test("an input that is too large for the server ends the session at once", async (t) => {
  const { url, requests } = await talking(t, async (socket) => { await socket.begin(); await socket.next(); socket.close(1009); });
  const session = new Client(url).connect("/realtime");
  session.send("large");
  await assert.rejects(session.done(), { code: "payload_too_large" });
  while (requests.length < 2) await new Promise(setImmediate);
  assert.equal(requests[1].url, `/jobs/${JOB}/cancel`);
});

test("without patience a lost session is not resumed", async (t) => {
  const { url, requests } = await talking(t, async (socket) => { await socket.begin(); socket.cut(); });
  const session = new Client(url, { patienceMs: 0 }).connect("/realtime");
  await assert.rejects(session.done(), { code: "stream_interrupted", retryable: true });
  assert.equal(requests.length, 1);
});

test("a server that opens no socket says why by a plain answer", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(401).end('{"error":{"code":"unauthorized","message":"a key"}}'));
  await assert.rejects(new Client(url).connect("/realtime").done(), { code: "unauthorized", status: 401, message: "a key" });
});

test("where nothing, or something else, is served, a session is not sought again and again", async (t) => {
  for (const [status, code] of [[404, "not_found"], [405, "unexpected_answer"]]) {
    const { url, requests } = await serving(t, (response) => response.writeHead(status).end());
    await assert.rejects(new Client(url).connect("/realtime").done(), { code, status, message: /no session/ });
    assert.equal(requests.length, 2);
  }
});

test("a session that answers, and opens no socket, is tried again", async (t) => {
  const { url, requests } = await serving(t, (response) => response.writeHead(426).end());
  const session = new Client(url, { patienceMs: 500 }).connect("/realtime");
  await assert.rejects(session.done(), { code: "connection_failed", message: /does a proxy pass none on/ });
  assert.ok(requests.length > 2);
});

test("who is led from http to https is told the URL to write", async (t) => {
  const { url } = await serving(t, (response) => response.writeHead(301, { Location: "https://127.0.0.1:1/realtime" }).end());
  const expected = { code: "unexpected_answer", message: /redirects to https:\/\/127.0.0.1:1\/realtime; write the URL/ };
  await assert.rejects(new Client(url).connect("/realtime").done(), expected);
});

test("what is no JSON ends it", async (t) => {
  const { url } = await talking(t, async (socket) => { await socket.begin(); socket.send("{"); });
  await assert.rejects(new Client(url).connect("/realtime").done(), { code: "stream_interrupted", message: /Expected JSON/ });
});

test("what JSON cannot hold is refused before it is sent, and the session goes on", async (t) => {
  const { url } = await talking(t, echo);
  const session = new Client(url).connect("/realtime");
  await assert.rejects(session.send(() => 1), { name: "TypeError", message: /got a function/ });
  await assert.rejects(new Client(url).run("/run", { input: Symbol("x") }), { name: "TypeError", message: /got a symbol/ });
  assert.equal(await session.send(1), 1);
  session.cancel();
});

// Ending

test("an error ends it, behind what came before", async (t) => {
  const data = { error: { code: "draining", message: "shut down", retryable: true }, detail: "shut down" };
  const { url } = await talking(t, async (socket) => {
    await socket.begin();
    socket.event("output", 1, 2);
    socket.event("error", data, 3);
    socket.close(1012);
  });
  const session = new Client(url).connect("/realtime");
  const seen = [];
  const read = async () => { for await (const { data } of session) seen.push(data); };
  await assert.rejects(read(), (error) => error instanceof StreamappError && error.code === "draining" && error.retryable);
  assert.deepEqual(seen, [1]);
});

test("a session that is over takes no more inputs", async (t) => {
  const { url } = await talking(t, async (socket) => { await socket.begin(); socket.end(); });
  const session = new Client(url).connect("/realtime");
  await session.done();
  await assert.rejects(session.send(1), ENDED);
  const finished = new Client(url).connect("/realtime");
  finished.finish();
  await assert.rejects(finished.send(1), ENDED);
  await finished.done();
});

test("leaving the loop cancels the job, and hangs up", async (t) => {
  let closed;
  const { url, requests } = await talking(t, async (socket) => {
    await socket.begin();
    socket.event("output", 1, 2);
    closed = socket.next();
  });
  const session = new Client(url).connect("/realtime");
  for await (const _ of session) break;
  assert.deepEqual(requests.map(({ method, url }) => `${method} ${url}`), ["GET /realtime", `POST /jobs/${JOB}/cancel`]);
  assert.equal((await closed).type, "closed");
  await assert.rejects(session.done(), { code: "cancelled" });
  await assert.rejects(session.send(1), { code: "cancelled" });
});

test("a session that is left before it has a job tells the server so", async (t) => {
  const controller = new AbortController();
  const frames = new Promise((resolve) => {
    talking(t, async (socket) => {
      await socket.next();
      controller.abort(new Error("enough"));
      resolve(await socket.take(2));
    }).then(async ({ url }) => {
      await assert.rejects(new Client(url).connect("/realtime", { signal: controller.signal }).done(), /enough/);
    });
  });
  assert.deepEqual((await frames).map(({ type }) => type), ["cancel", "closed"]);
});

test("a signal that is aborted already opens nothing, and a session out of time ends", async (t) => {
  const { url, requests } = await talking(t, (socket) => socket.begin());
  const client = new Client(url);
  await assert.rejects(client.connect("/realtime", { signal: AbortSignal.abort() }).done(), { name: "AbortError" });
  assert.equal(requests.length, 0);
  await assert.rejects(client.connect("/realtime", { timeoutMs: 50 }).done(), { code: "deadline_exceeded" });
});

// Bounds

test("send() waits while the server is 64 inputs behind", async (t) => {
  let acknowledge;
  const { url } = await talking(t, async (socket) => {
    await socket.begin();
    await socket.take(64);
    acknowledge = () => socket.send({ type: "received", n: 64 });
    assert.equal((await socket.next()).n, 65);
    socket.end();
  });
  const session = new Client(url).connect("/realtime");
  let sent = 0;
  for (let n = 0; n < 65; n++) session.send(n).then(() => sent++);
  while (!acknowledge) await new Promise(setImmediate);
  assert.equal(sent, 64);
  acknowledge();
  await session.done();
  assert.equal(sent, 65);
});

test("with `newest` an input that waits is replaced", async (t) => {
  const { url } = await talking(t, echo);
  const session = new Client(url).connect("/realtime", { newest: true });
  const sent = [1, 2, 3].map((n) => session.send(n));
  session.finish();
  assert.deepEqual((await collect(session)).map(({ data }) => data), [3]);
  assert.deepEqual(await Promise.all(sent), [undefined, undefined, 1]);
});

test("previews that nobody has read are replaced by newer ones of their slot, and outputs are not", async (t) => {
  const { url } = await talking(t, async (socket) => {
    await socket.begin();
    for (let n = 0; n < 50; n++) {
      socket.event("preview", { step: n, key: n % 2 ? "odd" : undefined }, n + 2);
      if (n % 10 === 0) socket.event("output", n, n + 100);
    }
    socket.end();
  });
  const session = new Client(url).connect("/realtime");
  while (await session.send(1).then(() => true, () => false)); // until it is over
  const seen = (await collect(session)).map(({ name, data }) => data.step ?? data);
  assert.deepEqual(seen, [0, 10, 20, 30, 40, 48, 49]);
});

test("a reader that is far behind leaves the socket until it has read, and misses nothing", async (t) => {
  const send = (socket, from, to) => { for (let n = from; n < to; n++) socket.event("output", n, n + 2); };
  let closed;
  const { url } = await talking(
    t,
    async (socket) => {
      await socket.begin();
      send(socket, 0, 4500);
      closed = socket.next();
    },
    async (socket) => {
      const { last_event_id: last } = await socket.begin();
      send(socket, Number(last.split(".")[1]) - 1, 4500);
      socket.end();
    },
  );
  const session = new Client(url).connect("/realtime");
  while (!closed) await new Promise(setImmediate);
  assert.equal((await closed).type, "closed");
  assert.equal(session.reconnects, 0);
  assert.deepEqual((await collect(session)).map(({ data }) => data), Array.from({ length: 4500 }, (_, n) => n));
  assert.equal(session.reconnects, 1);
});

test("a session that nobody reads comes back before the server gives it up, and takes no more along", async (t) => {
  const tooMuch = async (socket) => {
    await socket.begin(0, 0.02);
    for (let n = 0; n < 4500; n++) socket.event("output", n, n + 2);
  };
  const { url, requests } = await talking(t, tooMuch, tooMuch, async (socket) => {
    await socket.begin();
    socket.end();
  });
  const session = new Client(url).connect("/realtime");
  while (requests.length < 3) await new Promise(setImmediate);
  assert.equal((await collect(session)).length, 4097);
});

test("a session that ends with its socket, and is not read, says why it has ended", async (t) => {
  const { url } = await talking(t, async (socket) => {
    await socket.begin(0, 0);
    for (let n = 0; n < 4500; n++) socket.event("output", n, n + 2);
  });
  const session = new Client(url).connect("/realtime");
  while (await session.send(1).then(() => true, () => false)); // until it is over
  await assert.rejects(session.done(), { code: "stream_interrupted", message: /faster than they are read/ });
});

// The fixtures that the server and the Python client read

const { situations } = JSON.parse(readFileSync(new URL("../../../tests/wire/session.json", import.meta.url), "utf8"));
// What this client never sends: it says `cancel` by the job's id, asks for no other window, and makes no mistakes.
const NOT_OURS = /^(cancel|open-for-longest|open-without-key|refused-first-frame|refused-key|refused-gap|refused-frame|unknown-type)$/;
const isOpened = ({ frames }) => JSON.parse(frames[0].text).type === "open";

// The frames have one key; the client draws another one for each session.
const KEY = "fedcba98765432100123456789abcdef";
const withKey = (text) => text.replace(/^({"type":"open","resume_s":10,"key":")[0-9a-f]{32}("})$/, `$1${KEY}$2`);

const opened = situations.filter((one) => isOpened(one) && !NOT_OURS.test(one.name));
const TRANSPORTS = { WebSocket: talking, WebRTC: peering };

for (const [{ name, frames }, transport] of opened.flatMap((one) => Object.keys(TRANSPORTS).map((each) => [one, each]))) {
  test(`the frames of "${name}" are sent and read to the byte, by ${transport}`, async (t) => {
    const said = (side) => frames.filter(({ from, text }) => from === side && text).map(({ text }) => JSON.parse(text));
    const rest = [...frames];
    const { url } = await TRANSPORTS[transport](t, async (socket) => {
      for (let frame; (frame = rest.shift()); ) {
        if (frame.from === "network") return socket.cut();
        if (frame.from === "client") assert.equal(withKey(await socket.text()), frame.text);
        else frame.text ? socket.send(frame.text) : socket.close(frame.close, frame.reason);
      }
      socket.end();
    });
    const isRefused = name.startsWith("refused");
    const session = new Client(url, isRefused ? { patienceMs: 0 } : {}).connect("/realtime", { webrtc: transport === "WebRTC" });
    const inputs = new Map(said("client").filter(({ type }) => type === "input").map(({ n, data }) => [n, data]));
    for (const data of inputs.values()) session.send(data);
    if (said("client").some(({ type }) => type === "finish")) session.finish();
    const seen = [];
    const end = await (async () => { for await (const event of session) seen.push(event); })().catch(({ code }) => code);
    const last = said("server").at(-1);
    assert.equal(end, name === "taken-over" ? "stream_interrupted" : (last.error ?? last.data?.error)?.code);
    const events = said("server").filter(({ type, event }) => type === "event" && event !== "done" && event !== "error");
    assert.deepEqual(seen, events.map(({ event, id, data }) => ({ name: event, data, id })));
    assert.deepEqual(rest, []);
  });
}
