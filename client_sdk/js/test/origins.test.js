/** What goes to which server: the key and the input to the one that the client was made for. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "streamapp-client";

import { JOB, JSON_ANSWER, serving } from "./serving.js";

const seven = (response) => response.writeHead(200, JSON_ANSWER).end("7");
const leading = (status, location) => (response) => response.writeHead(status, { Location: location }).end();

test("an input is followed to where its own server leads", async (t) => {
  for (const status of [307, 308]) {
    const { url, requests } = await serving(t, leading(status, "/echo/"), seven);
    assert.equal(await new Client(url, { key: "k" }).run("/echo"), 7);
    const sent = requests.map(({ method, url, headers }) => [method, url, headers.authorization, headers["content-length"]]);
    assert.deepEqual(sent, [["POST", "/echo", "Key k", "2"], ["POST", "/echo/", "Key k", "2"]]);
  }
});

for (const [name, call] of Object.entries({
  run: (client) => client.run("/echo"),
  stream: (client) => client.stream("/echo"),
  submit: (client) => client.submit("/echo"),
  fetch: (client) => client.fetch("/echo"),
})) {
  test(`${name} sends no input to another origin`, async (t) => {
    const other = await serving(t, seven);
    const { url, requests } = await serving(t, leading(307, `${other.url}/echo`));
    await assert.rejects(call(new Client(url)), { code: "unexpected_answer", retryable: false, message: /another origin.*write the URL/ });
    assert.deepEqual([requests.length, other.requests.length], [1, 0]);
  });
}

for (const status of [301, 302, 303]) {
  test(`what ${status} leads to elsewhere is asked for without input and key`, async (t) => {
    const other = await serving(t, seven);
    const { url, requests } = await serving(t, leading(status, `${other.url}/result`));
    assert.equal(await new Client(url, { key: "secret" }).run("/echo"), 7);
    assert.equal(requests[0].headers.authorization, "Key secret");
    const [{ method, headers }] = other.requests;
    assert.deepEqual([method, headers.authorization, headers["idempotency-key"], headers["content-length"]], ["GET", undefined, undefined, undefined]);
  });
}

test("the question for a job goes elsewhere without the key", async (t) => {
  const other = await serving(t, seven);
  const { url } = await serving(t, leading(308, `${other.url}/result`));
  assert.equal(await new Client(url, { key: "secret" }).job(JOB).result(), 7);
  assert.equal(other.requests[0].headers.authorization, undefined);
});

test("a URL may end in what says nothing", async (t) => {
  const { url, requests } = await serving(t, seven);
  for (const end of ["/v1", "/v1/", "/v1//", "/v1?", "/v1/#"]) await new Client(url + end).run("/echo");
  assert.deepEqual(new Set(requests.map(({ url }) => url)), new Set(["/v1/echo"]));
});

test("what leads from http to https is told, not asked for without input and key", async (t) => {
  for (const status of [301, 302, 303, 307, 308]) {
    const { url } = await serving(t, leading(status, "https://127.0.0.1:1/echo"), leading(status, "https://127.0.0.1:1/echo"));
    const refused = { code: "unexpected_answer", message: /redirects to https:\/\/127.0.0.1:1\/echo; write the URL/ };
    await assert.rejects(new Client(url).run("/echo"), refused);
    await assert.rejects(new Client(url, { key: "secret" }).job(JOB).result(), refused);
  }
});

test("what takes neither input nor key along is led on, by https too", async (t) => {
  const other = await serving(t, leading(301, "https://127.0.0.1:1/result"));
  const { url } = await serving(t, leading(303, `${other.url}/result`));
  const options = { key: "secret", patienceMs: 0 };
  await assert.rejects(new Client(url, options).run("/echo"), { code: "connection_failed", message: /No answer from https:/ });
});

test("a redirect without an end is not followed for ever", async (t) => {
  const { url, requests } = await serving(t, leading(307, "/echo"));
  await assert.rejects(new Client(url).run("/echo"), { code: "unexpected_answer", message: /without an end/ });
  assert.equal(requests.length, 21);
});

test("a redirect to what is no HTTP gets no input", async (t) => {
  const { url } = await serving(t, leading(307, "data:application/json,7"));
  await assert.rejects(new Client(url).run("/echo"), { code: "unexpected_answer" });
  const got = await serving(t, leading(302, "data:application/json,7"));
  await assert.rejects(new Client(got.url).run("/echo"), { code: "unexpected_answer" });
});

test("a path is one, or a URL of this server", async (t) => {
  const { url, requests } = await serving(t, seven);
  const client = new Client(url, { key: "secret" });
  const { port } = new URL(url);
  const elsewhere = ["https://evil.example/x", "//evil.example\\@", "@evil.example/x", ".evil.example/x", "echo", `${url}@evil.example/x`, `${url}0/x`, `ftp://127.0.0.1:${port}/x`, `${url}\t@evil.example/`];
  for (const path of elsewhere.filter((path) => !path.startsWith("//"))) {
    for (const call of ["run", "stream", "submit", "subscribe", "fetch"]) await assert.rejects(client[call](path), /Expected a path such as/, path);
    assert.throws(() => client.eventSource(path), TypeError);
  }
  assert.equal(requests.length, 0);
  for (const path of ["/echo", `${url}/echo`, `HTTP://127.0.0.1:${port}/echo`, "//echo", "?echo", ""]) assert.equal(await client.run(path), 7);
  assert.deepEqual(requests.map(({ url }) => url), ["/echo", "/echo", "/echo", "//echo", "/?echo", "/"]);
});

test("a base that is not of HTTP has no URLs", async () => {
  for (const path of ["echo", "data:,7"]) await assert.rejects(new Client("ws://127.0.0.1:1").run(path), /Expected a path such as "\/stream", or a URL of ws:/);
});

test("key and ids may hold any character", async (t) => {
  const { url, requests } = await serving(t, (response) => response.writeHead(204).end());
  await (await new Client(url, { key: "ключ é" }).job(JOB).events({ after: "日本:1.é" })).done();
  const sent = (name) => Buffer.from(requests[0].headers[name], "latin1").toString();
  assert.deepEqual([sent("authorization"), sent("last-event-id")], ["Key ключ é", "日本:1.é"]);
});

test("the id of a job is no path", async (t) => {
  const { url, requests } = await serving(t, seven);
  await new Client(url).job("../x?y#é").result();
  assert.equal(requests[0].url, "/jobs/..%2Fx%3Fy%23%C3%A9/result");
});
