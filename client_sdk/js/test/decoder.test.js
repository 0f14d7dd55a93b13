/** The decoder against the byte fixtures that the Python client reads too. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { SSEDecoder } from "streamapp-client";

const FIXTURES = new URL("../../../tests/wire/", import.meta.url);

const fixtures = readdirSync(FIXTURES)
  .filter((name) => name.endsWith(".json") && name !== "session.json")
  .map((name) => JSON.parse(readFileSync(new URL(name, FIXTURES), "utf8")));

function bytesOf(fixture) {
  return fixture.input_base64 === undefined
    ? new TextEncoder().encode(fixture.input)
    : new Uint8Array(Buffer.from(fixture.input_base64, "base64"));
}

function decode(chunks) {
  const decoder = new SSEDecoder();
  const events = chunks.flatMap((chunk) => decoder.feed(chunk)).map(({ name, data, id }) => ({ event: name, data, id }));
  return { events, retry: decoder.retryMs ?? null, last_event_id: decoder.lastEventId };
}

test("there are fixtures", () => assert.ok(fixtures.length > 40));

for (const fixture of fixtures) {
  const { name, events, retry, last_event_id } = fixture;
  const bytes = bytesOf(fixture);
  const expected = { events, retry, last_event_id };

  test(`${name}: in one piece, byte by byte, and cut at every byte`, () => {
    assert.deepEqual(decode([bytes]), expected);
    assert.deepEqual(decode(Array.from(bytes, (byte) => Uint8Array.of(byte))), expected);
    for (let at = 0; at <= bytes.length; at++) {
      assert.deepEqual(decode([bytes.subarray(0, at), bytes.subarray(at)]), expected, `cut at byte ${at}`);
    }
  });
}

/** Return the processor's time for 20 MB in pieces of 1 kB, the least of three. */
function timeOf(piece, events) {
  const times = Array.from({ length: 3 }, () => {
    const decoder = new SSEDecoder();
    const start = process.cpuUsage();
    let count = 0;
    for (let i = 0; i < 20_000; i++) count += decoder.feed(piece).length;
    count += decoder.feed(new TextEncoder().encode("\n\n")).length;
    assert.equal(count, events);
    return process.cpuUsage(start).user / 1000;
  });
  return Math.min(...times);
}

test("an event of 20 MB takes time in proportion to its size", () => {
  const small = timeOf(new TextEncoder().encode(`data: ${"x".repeat(992)}\n\n`), 20_000);
  const large = timeOf(new TextEncoder().encode("data: ".padEnd(1000, "x")), 1);
  assert.ok(large < 100 * small, `20 000 events: ${small} ms, one event: ${large} ms`); // thousands of times if it were quadratic
});
