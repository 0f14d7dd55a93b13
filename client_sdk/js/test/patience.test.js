/** How long lost connections are waited for. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./source.js";

const { Patience, sleep } = await source("patience");

test("the waits grow, and end", (t) => {
  t.mock.method(Math, "random", () => 1);
  let now = 0;
  const patience = new Patience(10_000, { isProven: true }, () => now);
  const waits = Array.from({ length: 8 }, () => patience.waitMs(undefined));
  assert.deepEqual(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  now = 9000;
  assert.equal(patience.waitMs(undefined), undefined);
  patience.renew();
  assert.equal(patience.waitMs(undefined, 2000), 2000);
});

test("the waits can be shortened, and are never lengthened", (t) => {
  t.mock.method(Math, "random", () => 1);
  for (const [given, expected] of [[2500, [800, 1600, 2500]], [0, [100, 100, 100]], [60_000, [800, 1600, 3200]]]) {
    const patience = new Patience(30_000, { isProven: true }, () => 0);
    patience.shorten(given);
    assert.deepEqual(Array.from({ length: 6 }, () => patience.waitMs(undefined)).slice(3), expected);
  }
});

test("the waits grow from the least one too, without end", (t) => {
  t.mock.method(Math, "random", () => 1);
  const patience = new Patience(Infinity, { isProven: true });
  const waits = Array.from({ length: 1100 }, () => patience.waitMs(undefined, 0));
  assert.deepEqual(waits.slice(0, 4), [1, 2, 4, 8]);
  assert.equal(waits.at(-1), 5000);
});

test("a server cannot ask for a wait that leaves no try", (t) => {
  t.mock.method(Math, "random", () => 1);
  const patience = new Patience(30_000, { isProven: true }, () => 0);
  assert.equal(patience.waitMs(undefined, 86_400_000), 15_000);
});

test("a server of another origin, which a page may not be allowed to read, is tried twice", () => {
  const unreachable = { code: "connection_failed" };
  const patience = new Patience(30_000, { isProven: false, isForeign: true }, () => 0);
  assert.ok(patience.waitMs(unreachable) !== undefined);
  assert.equal(patience.waitMs(unreachable), undefined);
  const proven = new Patience(30_000, { isProven: true, isForeign: true }, () => 0);
  for (let n = 0; n < 5; n++) assert.ok(proven.waitMs(unreachable) !== undefined);
});

test("a connection that outlives the longest wait is progress", () => {
  let now = 0;
  const patience = new Patience(10_000, { isProven: true }, () => now);
  const live = (ms) => { patience.answered(); now += ms; patience.heard(); };
  assert.ok(patience.waitMs(undefined) !== undefined);
  live(60_000);
  assert.ok(patience.waitMs(undefined) !== undefined);
  live(5000);
  live(5000);
  assert.equal(patience.waitMs(undefined), undefined);
});

/** Make this process a page of a browser, as far as waiting looks at it. */
function page(t, { onLine = true } = {}) {
  const globals = { document: Object.assign(new EventTarget(), { visibilityState: "hidden" }), navigator: { onLine } };
  const network = new EventTarget();
  globals.addEventListener = network.addEventListener.bind(network);
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  }
  return { document: globals.document, network };
}

const { signal } = new AbortController();
const HOUR = 3_600_000;

test("the network's return ends a wait", async (t) => {
  const { network } = page(t);
  const wait = sleep(HOUR, signal, true);
  network.dispatchEvent(new Event("online"));
  await wait;
});

test("a page that comes to the front tries at once, one that goes to the back does not", async (t) => {
  const { document } = page(t);
  let isOver = false;
  const wait = sleep(HOUR, signal, true).then(() => { isOver = true; });
  document.dispatchEvent(new Event("visibilitychange"));
  await new Promise(setImmediate);
  assert.equal(isOver, false);
  document.visibilityState = "visible";
  document.dispatchEvent(new Event("visibilitychange"));
  await wait;
});

test("time without a network does not count", async (t) => {
  const { network } = page(t, { onLine: false });
  let now = 0;
  const patience = new Patience(10_000, { isProven: true }, () => now);
  assert.ok(patience.waitMs(undefined) !== undefined);
  const wait = patience.wait(undefined, signal);
  now = HOUR;
  network.dispatchEvent(new Event("online"));
  assert.equal(await wait, true);
  assert.ok(patience.waitMs(undefined) !== undefined);
});

test("a server is tried without a network, too: it may be on this machine", async (t) => {
  page(t, { onLine: false });
  const patience = new Patience(10_000, { isProven: true });
  patience.shorten(1);
  assert.equal(await patience.wait(undefined, signal), true);
});
