/** The decoder against the byte fixtures that the Python client reads too. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { SSEDecoder } from "streamapp-client";

const FIXTURES = new URL("../../../tests/wire/", import.meta.url);

const fixtures = readdirSync(FIXTURES)
  .filter((name) => name.endsWith(".json"))
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

function timeOf(megabytes) {
  const decoder = new SSEDecoder();
  const piece = new TextEncoder().encode("x".repeat(16_384));
  const start = performance.now();
  decoder.feed(new TextEncoder().encode("data: "));
  for (let i = 0; i < megabytes * 64; i++) assert.deepEqual(decoder.feed(piece), []);
  const [event] = decoder.feed(new TextEncoder().encode("\n\n"));
  assert.equal(event.data.length, megabytes * 64 * 16_384);
  return performance.now() - start;
}

test("an event of 20 MB in small pieces takes time in proportion to its size", () => {
  timeOf(5);
  const small = Math.min(timeOf(5), timeOf(5), timeOf(5));
  const large = Math.min(timeOf(20), timeOf(20), timeOf(20));
  assert.ok(large < 10 * small, `5 MB: ${small} ms, 20 MB: ${large} ms`); // 16 times if it were quadratic
});
