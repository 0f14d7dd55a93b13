/** How long lost connections are waited for. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./source.js";

const { Patience } = await source("patience");

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
