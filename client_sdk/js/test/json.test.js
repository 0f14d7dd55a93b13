/** Integers of any size, in and out. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { parseJson, stringifyJson } from "streamapp-client";

const PLAIN = [
  null, true, false, 0, -0, 1.5, -1e21, NaN, "", 'a "b" \\', "\u2028\ud800", [], {}, [[]], [undefined, () => {}, Symbol()], new Date(0),
  { a: undefined, b: [1, { c: null }], "": 0, 2: "z", 1: "y" }, JSON.parse('{"__proto__": 1}'), { toJSON: (key) => `at ${key}` },
  { at: { toJSON: (key) => key }, list: [{ toJSON: (key) => key }] }, new Array(2), { a: { toJSON: () => ({ toJSON: () => 1 }) } },
];

test("what has no BigInt in it is written as JSON.stringify does", () => {
  for (const value of PLAIN) {
    assert.equal(stringifyJson(value), JSON.stringify(value));
    assert.equal(stringifyJson({ value, of: [value] }, 2), JSON.stringify({ value, of: [value] }, null, 2));
  }
});

test("a BigInt is written as an integer, also where a page has taught it toJSON", (t) => {
  const input = { seed: 12345678901234567890n, list: [-1n, { n: 0n }], made: { toJSON: () => 2n ** 64n } };
  const text = '{"seed":12345678901234567890,"list":[-1,{"n":0}],"made":18446744073709551616}';
  assert.equal(stringifyJson(input), text);
  BigInt.prototype.toJSON = String;
  t.after(() => delete BigInt.prototype.toJSON);
  assert.equal(stringifyJson(input), text);
});

test("an integer beyond what numbers hold is read as a BigInt, and nothing else is", () => {
  const cases = {
    "9007199254740991": 9007199254740991, "-9007199254740991": -9007199254740991,
    "9007199254740992": 9007199254740992n, "-9007199254740993": -9007199254740993n,
    "0000": undefined, "12345678901234567890.0": 12345678901234567000, "12345678901234567890e0": 12345678901234567000,
    "1e400": Infinity, "-0": -0, "0.12345678901234567890": 0.12345678901234568, "1e22": 1e22,
  };
  for (const [text, value] of Object.entries(cases)) {
    if (value === undefined) assert.throws(() => parseJson(`[12345678901234567890,${text}]`), SyntaxError);
    else assert.deepEqual(parseJson(`[12345678901234567890, ${text}]`), [12345678901234567890n, value]);
    if (value !== undefined) assert.ok(Object.is(parseJson(` ${text}\n`), value));
  }
});

test("what looks like a large integer in a string, or in a key, is none", () => {
  const texts = ['12345678901234567890', ':12345678901234567890,', 'a\\"b: 12345678901234567890', '\\\\', '\\\\\\"', '\\u0022 12345678901234567890', "}]"];
  for (const text of texts) {
    const json = `{ "${text}" :\t["${text}", 12345678901234567890 ,{"n":"${text}"}],\r\n"x":{}, "y":[ ] }`;
    const plain = JSON.parse(`"${text}"`);
    assert.deepEqual(parseJson(json), { [plain]: [plain, 12345678901234567890n, { n: plain }], x: {}, y: [] });
  }
});

test("what was written is read again, and keys stay what they are", () => {
  const value = { seeds: [2n ** 53n, -(2n ** 64n)], deep: [[[{ n: 2n ** 63n }]]], "2": true, " ": "  ", ["__proto__x"]: 1e-7 };
  for (const indent of [0, 2]) assert.deepEqual(parseJson(stringifyJson(value, indent)), value);
  const own = parseJson('{"__proto__": 12345678901234567890, "a": 1, "a": 2}');
  assert.deepEqual(Object.entries(own), [["__proto__", 12345678901234567890n], ["a", 2]]);
});

test("text that is not JSON is refused as JSON.parse does", () => {
  for (const text of ["", "12345678901234567890,", '{"a" 12345678901234567890}', "[12345678901234567890"]) {
    assert.throws(() => parseJson(text), SyntaxError);
  }
});
