/** Sessions by WebRTC: pieces, signalling, what is shown, and connections that are lost or never come about. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "streamapp-client";

import { peering, played } from "./peering.js";
import { JOB, serving } from "./serving.js";
import { echo } from "./talking.js";

const WEBRTC = { webrtc: true };
const isClosed = ({ connectionState }) => connectionState === "closed";

/** Put the clock forward until something is true. */
async function untilLater(t, isTrue, ms = 1000) {
  while (!isTrue()) {
    t.mock.timers.tick(ms);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("inputs are answered over the channel, and images come as a track", async (t) => {
  const { url, requests, connections } = await peering(t, echo);
  const session = new Client(url, { key: "ä k" }).connect("/realtime?max_buffering=1", WEBRTC);
  session.send({ n: 1 });
  session.finish();
  assert.deepEqual(await session.done(), { n: 1 });
  const [connection] = connections;
  assert.deepEqual(requests.map(({ method, url }) => `${method} ${url}`), ["GET", "POST"].map((method) => `${method} /realtime/webrtc?max_buffering=1`));
  assert.ok(requests.every(({ headers }) => headers.authorization === "Key \u00c3\u00a4 k"));
  assert.deepEqual(JSON.parse(requests[1].body), { type: "offer", sdp: connection.id });
  assert.deepEqual(connection.configuration, { iceServers: [{ urls: ["stun:127.0.0.1:1"] }] });
  assert.equal(connection.channel.label, "streamapp.v1");
  assert.deepEqual(connection.track, { kind: "video", direction: "recvonly" });
  assert.deepEqual(session.video.getTracks(), [connection.track]);
  assert.equal(session.jobId, JOB);
});

test("a session by WebSocket has no video", () => {
  const session = new Client("http://127.0.0.1:1", { WebSocket: class { close() {} } }).connect("/realtime");
  assert.equal(session.video, null);
  session.cancel();
});

test("a frame of any size goes in pieces, in which no character is cut", async (t) => {
  const { url, connections } = await peering(t, echo);
  const session = new Client(url).connect("/realtime", WEBRTC);
  const text = `a${"😀".repeat(40_000)}\nü`;
  session.send(text);
  session.finish();
  assert.equal(await session.done(), text);
  const { sent } = connections[0];
  assert.deepEqual(sent.map((piece) => piece[0]), [".", "+", "+", ".", "."]);
  assert.ok(sent.every((piece) => Buffer.byteLength(piece) < 65_536 && piece.isWellFormed()));
});

test("what the channel has no room for waits", async (t) => {
  const { url, connections } = await peering(t, echo);
  const session = new Client(url).connect("/realtime", WEBRTC);
  await new Promise((resolve) => session.on("connected", resolve));
  const { channel, sent } = connections[0];
  channel.bufferedAmount = 2 ** 18;
  await session.send("x".repeat(20_000));
  assert.equal(sent.length, 1);
  channel.bufferedAmount = 0;
  channel.onbufferedamountlow();
  assert.equal(sent.length, 3);
  assert.ok(channel.bufferedAmountLowThreshold < 2 ** 18);
  session.finish();
  await session.done();
});

test("of a session that is newest an input that the channel has no room for is replaced", async (t) => {
  const { url, connections } = await peering(t, echo);
  const session = new Client(url).connect("/realtime", { newest: true, ...WEBRTC });
  await new Promise((resolve) => session.on("connected", resolve));
  const { channel } = connections[0];
  channel.bufferedAmount = 2 ** 18;
  const first = session.send(1);
  const second = session.send(2);
  assert.equal(await first, undefined);
  channel.bufferedAmount = 0;
  assert.equal(await second, 1);
  session.finish();
  assert.equal(await session.done(), 2);
});

for (const loss of ["cut", "vanish"]) {
  test(`a connection that is lost (${loss}) loses and doubles nothing, and its video goes on in the same stream`, async (t) => {
    const { url, connections } = await peering(
      t,
      async (talk) => {
        await talk.begin();
        await talk.take(3);
        talk.send({ type: "received", n: 1 });
        talk.event("output", "a", 2);
        talk[loss]();
      },
      async (talk) => {
        assert.deepEqual(await talk.begin(2), { type: "resume", job_id: JOB, key: "k", last_event_id: `${JOB}:1.2` });
        assert.deepEqual((await talk.take(2)).map(({ type, n }) => n ?? type), [3, "finish"]);
        talk.event("output", "b", 3);
        talk.end();
      },
    );
    const session = new Client(url).connect("/realtime", WEBRTC);
    const { video } = session;
    const seen = [];
    session.on("output", (data) => seen.push(data));
    for (const n of [1, 2, 3]) session.send(n);
    session.finish();
    assert.equal(await session.done(), "b");
    assert.deepEqual(seen, ["a", "b"]);
    assert.equal(session.reconnects, 1);
    assert.equal(session.video, video);
    assert.deepEqual(video.getTracks(), [connections[1].track]);
  });
}

test("a drain's close is come back from, and one by which that is useless is thrown", async (t) => {
  const closing = (code) => async (talk) => { await talk.begin(); talk.close(code, "because"); };
  const again = await peering(t, closing(1012), async (talk) => { await talk.begin(); talk.end(); });
  const session = new Client(again.url).connect("/realtime", WEBRTC);
  await session.done();
  assert.equal(session.reconnects, 1);
  const { url } = await peering(t, closing(4409));
  await assert.rejects(new Client(url).connect("/realtime", WEBRTC).done(), { code: "stream_interrupted", message: /4409: because/ });
});

test("where the engine has no WebRTC that is said at once", async () => {
  const session = new Client("http://127.0.0.1:1").connect("/realtime", WEBRTC);
  const expected = { code: "connection_failed", retryable: false, message: /it takes a page in a browser.*goes by WebSocket/ };
  await assert.rejects(session.done(), expected);
  assert.equal(session.video, null);
});

test("what the server refuses is thrown with its own words", async (t) => {
  played(t);
  const error = { error: { code: "unauthorized", message: "a key" } };
  for (const [status, expected] of [
    [401, { code: "unauthorized", status: 401, message: "a key" }],
    [404, { code: "not_found", status: 404, message: /webrtc=True.*WebSocket/ }],
  ]) {
    const { url, requests } = await serving(t, (response) => response.writeHead(status).end(JSON.stringify(error)));
    await assert.rejects(new Client(url).connect("/realtime", WEBRTC).done(), expected);
    assert.equal(requests.length, 1);
  }
});

test("a refusal that may pass, and an answer that is cut, are asked again", async (t) => {
  const { url } = await peering(t, echo);
  const busy = (response) => response.writeHead(503).end('{"error":{"code":"unavailable","message":"","retryable":true}}');
  const cut = (response) => response.writeHead(200, { "Content-Type": "application/json", "Content-Length": 99 }).write("{", () => response.destroy());
  const onward = (response, { url: path }) => response.writeHead(307, { Location: url + path }).end();
  const front = await serving(t, busy, cut, onward);
  const session = new Client(front.url).connect("/realtime", WEBRTC);
  await assert.rejects(session.done(), { code: "unexpected_answer", message: /another origin/ }); // to which its offer is not sent
  assert.equal(front.requests.length, 4);
});

test("an answer that is none ends it", async (t) => {
  played(t);
  const { url } = await serving(t, (response, { method }) => {
    response.writeHead(200, { "Content-Type": "application/json" }).end(method === "GET" ? '{"ice_servers":[]}' : '{"type":"answer","sdp":"?"}');
  });
  await assert.rejects(new Client(url).connect("/realtime", WEBRTC).done(), { code: "connection_failed", message: /Invalid SDP: \?.*WebSocket/, retryable: false });
});

test("where no connection comes about in 15 s the session fails, and leaves none", async (t) => {
  const { url, requests, connections } = await peering(t, null);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let failed;
  const session = new Client(url).connect("/realtime", WEBRTC);
  session.done().catch((error) => { failed = error; });
  while (requests.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(14_999);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(failed, undefined);
  t.mock.timers.tick(1);
  await untilLater(t, () => failed);
  assert.match(failed.message, /none came about within 15 s.*goes by WebSocket/);
  assert.equal(failed.retryable, false);
  await untilLater(t, () => connections.every(isClosed));
  assert.equal(connections.length, 1);
});

test("a session that was there is tried again where no connection comes about", async (t) => {
  const { url, connections } = await peering(
    t,
    async (talk) => { await talk.begin(); talk.cut(); },
    null,
    async (talk) => { await talk.begin(); talk.end(); },
  );
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let isDone = false;
  const session = new Client(url).connect("/realtime", WEBRTC);
  session.done().then(() => { isDone = true; });
  await untilLater(t, () => isDone);
  assert.equal(connections.length, 3);
  assert.equal(session.reconnects, 1);
});

test("an address that is long in coming is not waited for", async (t) => {
  const { url, connections } = await peering(t, echo);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { RTCPeerConnection } = globalThis;
  globalThis.RTCPeerConnection = class extends RTCPeerConnection { iceGatheringState = "gathering"; };
  const session = new Client(url).connect("/realtime", WEBRTC);
  session.finish();
  let isDone = false;
  session.done().then(() => { isDone = true; });
  await untilLater(t, () => isDone, 100);
  assert.equal(connections.length, 1);
});

test("an offer is sent as soon as all addresses are there", async (t) => {
  const { url, requests, connections } = await peering(t, echo);
  const { RTCPeerConnection } = globalThis;
  globalThis.RTCPeerConnection = class extends RTCPeerConnection { iceGatheringState = "gathering"; };
  const session = new Client(url).connect("/realtime", WEBRTC);
  session.finish();
  while (!connections[0]?.onicegatheringstatechange) await new Promise((resolve) => setImmediate(resolve));
  connections[0].onicegatheringstatechange();
  assert.equal(requests.length, 1);
  connections[0].iceGatheringState = "complete";
  connections[0].onicegatheringstatechange();
  await session.done();
});

test("a session that is over closes its connection a moment later, when its last image has come", async (t) => {
  const { url, connections } = await peering(t, echo);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const session = new Client(url).connect("/realtime", WEBRTC);
  session.finish();
  await session.done();
  assert.equal(isClosed(connections[0]), false);
  t.mock.timers.tick(1000);
  assert.ok(connections.every(isClosed));
});

test("who leaves before it is open leaves no connection", async (t) => {
  const { url, connections } = await peering(t, null);
  for (const stage of [0, 1, 2]) {
    const controller = new AbortController();
    const session = new Client(url).connect("/realtime", { ...WEBRTC, signal: controller.signal });
    const rejected = assert.rejects(session.done(), { name: "AbortError" });
    for (let n = 0; n < stage; n++) await new Promise((resolve) => setTimeout(resolve, 10));
    controller.abort();
    await rejected;
  }
  while (!connections.every(isClosed)) await new Promise((resolve) => setTimeout(resolve, 10));
});

test("leaving is said by a word where there is no job yet, and then by the channel's end", async (t) => {
  let said;
  let session;
  const { url } = await peering(t, async (talk) => {
    await talk.next();
    session.cancel();
    said = talk.take(2);
  });
  session = new Client(url).connect("/realtime", WEBRTC);
  await assert.rejects(session.done(), { code: "cancelled" });
  assert.deepEqual((await said).map(({ type }) => type), ["cancel", "closed"]);
});

test("a page that is hidden hangs up at once, and resumes when it is shown again", async (t) => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  t.after(() => { delete globalThis.addEventListener; });
  const { url, connections } = await peering(
    t,
    async (talk) => { await talk.begin(); },
    async (talk) => { await talk.begin(); talk.end(); },
  );
  const session = new Client(url).connect("/realtime", WEBRTC);
  await new Promise((resolve) => session.on("connected", resolve));
  page.dispatchEvent(new Event("pagehide"));
  assert.ok(isClosed(connections[0]));
  await session.done();
  assert.equal(session.reconnects, 1);
});
