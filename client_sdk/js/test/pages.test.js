/** The pages of tests/pages/ in a real Chromium, served from the app's own origin. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { chromium } from "playwright-core";

import { serving } from "./serving.js";
import { WAIT_MS } from "./waiting.js";

const { STREAMAPP_PAINTER_URL: url, STREAMAPP_CUTTING_PAINTER_URL: cuttingUrl, CHROMIUM: executablePath } = process.env;
const { STREAMAPP_URL: numbersUrl, STREAMAPP_HALF_CUTTING_URL: halfCuttingUrl } = process.env;
const PAGES = new URL("../../../tests/pages/", import.meta.url);
const LONG = { input: { prompt: "long", steps: 10_000_000 } };

let browser;
// As root there is no sandbox to be had; to ask for the local network is for a person.
const ARGUMENTS = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"];
before(async () => { browser = await chromium.launch({ executablePath, args: ARGUMENTS }); });
after(() => browser.close());

async function bundled(name) {
  const entryPoints = [fileURLToPath(new URL(name, PAGES))];
  const nodePaths = [fileURLToPath(new URL("../node_modules", import.meta.url))];
  const alias = Object.fromEntries(
    ["streamapp-client/react", "streamapp-client"].map((name) => [name, fileURLToPath(import.meta.resolve(name))]),
  );
  const options = { bundle: true, format: "esm", write: false, define: { "process.env.NODE_ENV": '"development"' } };
  return (await build({ entryPoints, nodePaths, alias, ...options })).outputFiles[0].text;
}

/** Open a page of tests/pages/ as if the app served it; all other requests go to the app. */
async function open(t, name, origin = url, edit = (html) => html) {
  const page = await browser.newPage();
  page.setDefaultTimeout(WAIT_MS);
  t.after(() => page.close());
  const serve = (path, contentType, body) => page.route(`${origin}${path}`, (route) => route.fulfill({ contentType, body }));
  await serve("/page", "text/html", edit(readFileSync(new URL(name, PAGES), "utf8")));
  await serve("/streamapp-client.js", "text/javascript", readFileSync(fileURLToPath(import.meta.resolve("streamapp-client")), "utf8"));
  if (name === "react.html") await serve("/react-page.js", "text/javascript", await bundled("react-page.js"));
  const errors = [];
  page.on("pageerror", (error) => errors.push(error));
  await page.goto(`${origin}/page`);
  t.after(() => assert.deepEqual(errors, []));
  return page;
}

async function says(page, text, id = "status") {
  await page.waitForFunction(([text, id]) => document.getElementById(id).textContent === text, [text, id], { timeout: WAIT_MS });
}

async function hasStatus(jobId, status) {
  const deadline = performance.now() + WAIT_MS;
  for (;;) {
    const job = await (await fetch(`${url}/jobs/${jobId}`)).json();
    if (job.status === status) return;
    assert.ok(performance.now() < deadline, `job ${jobId} is ${job.status}, not ${status}`);
  }
}

for (const name of ["eventsource.html", "fetch.html"]) {
  test(`${name} shows the image`, async (t) => {
    const page = await open(t, name);
    await says(page, "done");
    assert.match(await page.getAttribute("#image", "src"), /^data:image\/gif/);
  });

  test(`${name} shows the error`, async (t) => {
    const page = await open(t, name, url, (html) => html.replace(/a%20red%20circle|a red circle/, "fail"));
    const status = await page.waitForFunction(() => document.getElementById("status").textContent);
    // What fetch has not handed out when the server hangs up, it drops: then the browser's own words are all there is.
    assert.match(await status.jsonValue(), /failed with RuntimeError|network error/);
  });
}

test("fetch.html reads a result with a line separator in it", async (t) => {
  const page = await open(t, "fetch.html", url, (html) => html.replace("a red circle", "a red\\u2028circle"));
  await says(page, "done");
});

test("eventsource.html survives cuts", async (t) => {
  await says(await open(t, "eventsource.html", cuttingUrl), "done");
});

test("cuts lose, double and move nothing in a page either", async (t) => {
  const page = await open(t, "sdk.html", halfCuttingUrl);
  const cuts = await page.evaluate(async () => {
    const client = new window.streamapp.Client("/");
    while (!(await client.run("/count").then(() => true, () => false))); // from now on, a lost connection is known to be none refused
    const read = async () => {
      const stream = await client.stream("/numbers", { input: { n: 100, large: 600 } });
      const numbers = [];
      for await (const { data } of stream) numbers.push(data.n);
      if (numbers.some((n, i) => n !== i) || (await stream.done()).n !== 99) throw new Error(String(numbers));
      if ((await client.run("/echo", { input: { value: 1 } })) !== 1) throw new Error("the echo is wrong");
      return stream.reconnects;
    };
    const cuts = await Promise.all(Array.from({ length: 50 }, read));
    return cuts.reduce((sum, n) => sum + n);
  });
  t.diagnostic(`${cuts} resumed cuts`);
  assert.ok(cuts > 0);
});

/** Send a session numbers, and return those that come back, and how often it was resumed. */
const talk = async ([url, n]) => {
  const session = new window.streamapp.Client(url).connect("/canvas");
  const seen = [];
  const read = (async () => { for await (const { name, data } of session) if (name === "output") seen.push(data.x); })();
  for (let x = 0; x < n; x++) await session.send({ x });
  session.finish();
  await read;
  return [seen, session.reconnects];
};

test("a session in a page is resumed where it was cut", async (t) => {
  const page = await open(t, "sdk.html", cuttingUrl);
  await page.evaluate(async () => {
    while (!(await new window.streamapp.Client("/").run("/canvas").catch(({ code }) => code === "upgrade_required")));
  });
  let cuts = 0;
  while (!cuts) {
    const [seen, reconnects] = await page.evaluate(talk, ["/", 200]);
    assert.deepEqual(seen, Array.from({ length: 200 }, (_, x) => x));
    cuts += reconnects;
  }
});

test("a page of another origin gets a session where the server names it, and is told where not", async (t) => {
  const named = await open(t, "sdk.html", numbersUrl);
  assert.deepEqual(await named.evaluate(talk, [url, 3]), [[0, 1, 2], 0]);
  const other = await open(t, "sdk.html");
  const refused = `new window.streamapp.Client("${numbersUrl}").connect("/echoed").done().catch(({ code, message }) => code + ": " + message)`;
  assert.match(await other.evaluate(refused), /^connection_failed: .* in STREAMAPP_CORS_ORIGINS$/);
});

test("eventSource() opens the browser's own, which closes itself", async (t) => {
  const page = await open(t, "sdk.html");
  const names = await page.evaluate(() => new Promise((resolve) => {
    const names = [];
    const source = new window.streamapp.Client("/").eventSource("/stream", { prompt: "a red circle" });
    for (const name of ["preview", "output", "done"]) source.addEventListener(name, () => names.push(name));
    source.addEventListener("done", () => resolve([...new Set(names), source.readyState]));
  }));
  assert.deepEqual(names, ["preview", "output", "done", 2]);
});

test("a page of another origin, which the server names, gets its streams", async (t) => {
  const page = await open(t, "sdk.html", numbersUrl);
  const [jobId, result] = await page.evaluate(async (url) => {
    const client = new window.streamapp.Client(url, { key: "k" });
    const stream = await client.stream("/stream", { input: { prompt: "a red circle" } });
    return [stream.jobId, await stream.done()];
  }, url);
  assert.match(jobId, /^[0-9a-f]{32}$/);
  assert.equal(result.prompt, "a red circle");
});

test("a page that the server names may send credentials, by EventSource and by fetch", async (t) => {
  const page = await open(t, "sdk.html", numbersUrl);
  const [name, status] = await page.evaluate(async (url) => {
    const address = `${url}/stream?prompt=x&steps=1`;
    const source = new EventSource(address, { withCredentials: true });
    const name = await new Promise((resolve) => {
      for (const name of ["done", "error"]) source.addEventListener(name, () => resolve(name));
    });
    source.close();
    return [name, (await fetch(address, { credentials: "include" })).status];
  }, url);
  assert.deepEqual([name, status], ["done", 200]);
});

/** Count what a page sends to a server, once a call has failed; return the error's message too. */
async function failing(page, server, call) {
  let count = 0;
  page.on("request", (request) => { if (request.url().startsWith(server)) count++; });
  const run = `new window.streamapp.Client("${server}").${call}.then(() => "it works", (error) => error.code + ": " + error.message)`;
  return [await page.evaluate(run), () => count];
}

test("a page that the server does not name is told so, and does not go on asking", async (t) => {
  const page = await open(t, "sdk.html");
  for (const call of ["stream('/steps')", "run('/echo')", "submit('/steps')", "subscribe('/steps')", "job('0').status()"]) {
    const [message, count] = await failing(page, numbersUrl, call);
    assert.match(message, /^connection_failed: No answer .* cannot be reached, or does not name http:\/\/127\.0\.0\.1:\d+ in STREAMAPP_CORS_ORIGINS$/);
    assert.ok(message.includes(url));
    assert.ok(count() <= 2);
  }
});

test("a page's input is led to another path of its own server, and to no other server", async (t) => {
  const cors = { "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*" };
  const seven = (response) => response.writeHead(200, { ...cors, "Content-Type": "application/json" }).end("7");
  const other = await serving(t, seven);
  const { url, requests } = await serving(t, (response, { method, url }) => {
    const location = { "/here": "/seven", "/there": `${other.url}/seven` }[url];
    if (!location || method === "OPTIONS") return seven(response);
    response.writeHead(307, { ...cors, Location: location }).end();
  });
  const refused = /^unexpected_answer: .* redirects to another origin than the page's, to which its input is not sent/;
  const page = await open(t, "sdk.html", url);
  assert.equal((await failing(page, url, "run('/here')"))[0], "it works");
  assert.match((await failing(page, url, "run('/there')"))[0], refused);
  const foreign = await open(t, "sdk.html", numbersUrl);
  assert.match((await failing(foreign, url, "run('/here')"))[0], refused);
  assert.equal(other.requests.length, 0);
  assert.equal(requests.filter(({ url }) => url === "/seven").length, 1);
  assert.equal((await failing(page, url, "job('0').status()"))[0], "it works");
});

/** Forward connections to a URL of this machine; `cut` ends all that are open. */
async function forwarding(t, target) {
  const sockets = new Set();
  const server = createServer((socket) => {
    const onward = connect(new URL(target).port, "127.0.0.1");
    for (const end of [socket, onward]) sockets.add(end.on("error", () => {}).on("close", () => sockets.delete(end)));
    socket.pipe(onward).pipe(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => sockets.forEach((socket) => socket.destroy());
  t.after(() => { server.close(); cut(); });
  return { origin: `http://127.0.0.1:${server.address().port}`, cut };
}

test("a page that is offline waits, and resumes when it is back", async (t) => {
  const { origin, cut } = await forwarding(t, numbersUrl);
  const page = await open(t, "sdk.html", origin);
  await page.evaluate(async () => {
    window.stream = await new window.streamapp.Client("/").stream("/numbers", { input: { n: 10_000 } });
    window.numbers = [];
    window.stream.on("output", ({ n }) => window.numbers.push(n));
  });
  await page.waitForFunction(() => window.numbers.length > 0);
  await page.context().setOffline(true); // the emulation refuses new connections, and leaves those that are open
  cut();
  const hasStopped = () => window.seen === (window.seen = window.numbers.length);
  await page.waitForFunction(hasStopped, null, { polling: 500 });
  const seen = await page.evaluate(() => window.seen);
  assert.ok(seen < 10_000);
  await page.context().setOffline(false);
  await page.evaluate(() => window.stream.done());
  assert.deepEqual(await page.evaluate(() => window.numbers), Array.from({ length: 10_000 }, (_, n) => n));
  assert.equal(await page.evaluate(() => window.stream.reconnects), 1);
});

test("a page that closes leaves no job behind", async (t) => {
  const page = await open(t, "sdk.html");
  const jobId = await page.evaluate(async (long) => {
    const stream = await new window.streamapp.Client("/", { resumeWindowMs: 0 }).stream("/stream", long);
    stream.on("preview", () => {});
    return stream.jobId;
  }, LONG);
  await page.close();
  await hasStatus(jobId, "cancelled");
});

async function startLong(page) {
  const started = page.waitForResponse((response) => response.url().endsWith("/stream"));
  await page.click("#long");
  await page.waitForSelector("img");
  return (await started).headers()["x-streamapp-job-id"];
}

test("useStream shows a stream, its failure, its cancel, and ends with its component", async (t) => {
  const page = await open(t, "react.html");
  await says(page, "idle");
  await page.click("#start");
  await says(page, "succeeded a red circle");
  assert.match(await page.getAttribute("img", "src"), /^data:image\/gif/);
  await page.click("#fail");
  await says(page, "failed endpoint_failed");
  await page.click("#long");
  await page.waitForSelector("img");
  await page.click("#cancel");
  await says(page, "cancelled");
  await fetch(`${url}/jobs/${await startLong(page)}/cancel`, { method: "POST" });
  await says(page, "cancelled cancelled");
  const jobId = await startLong(page);
  await page.click("#hide");
  await hasStatus(jobId, "cancelled");
});

test("useSession goes by WebRTC where it is asked to", async (t) => {
  const page = await open(t, "react.html");
  await page.click("#film");
  await says(page, "idle", "session");
  await page.click("#point");
  await says(page, "failed not_found MediaStream", "session"); // the app's method is not marked so
});

test("useSession shows a session, what is wrong with an input, its end, and ends with its component", async (t) => {
  const page = await open(t, "react.html");
  await says(page, "idle", "session");
  await page.click("#point");
  await says(page, "open 1", "session");
  assert.match(await page.getAttribute("#sketch", "src"), /^data:image\/gif/);
  await page.click("#off");
  await says(page, "open 1 endpoint_failed", "session");
  await page.click("#point");
  await says(page, "open 2", "session");
  await page.click("#finish");
  await says(page, "succeeded 2", "session");
  await page.click("#point"); // another one
  await says(page, "open 3", "session");
  await page.click("#leave");
  await says(page, "cancelled 3", "session");
  await page.click("#point");
  await says(page, "open 4", "session");
  await page.click("#elsewhere");
  await says(page, "idle", "session");
  const cancelled = page.waitForRequest((request) => request.url().endsWith("/cancel"));
  await page.click("#point");
  await says(page, "open 5", "session");
  await page.click("#hide");
  await cancelled;
  page.on("websocket", () => assert.fail("a session that nobody sees"));
  assert.equal(await page.evaluate(() => window.sendLate()), undefined);
});
