/**
 * Measure how fast bytes become events, beside eventsource-parser and what @fal-ai/client reads its streams with.
 *
 * Prints times relative to ours: the median of 5 rounds, in which all take turns. `npm run bench`.
 */

import { createRequire } from "node:module";
import { createFalClient } from "@fal-ai/client";
import { createParser } from "eventsource-parser";
import { Client, SSEDecoder } from "streamapp-client";

const ROUNDS = 5;
const requireOfFal = createRequire(createRequire(import.meta.url).resolve("@fal-ai/client"));
const { createParser: createFalParser } = requireOfFal("eventsource-parser");

// What is decoded: the server's own framing, and how a network might cut it.

function framed(count, payload, end = "\n") {
  const job = "0123456789abcdef0123456789abcdef";
  const lines = (n) => ["event: output", `id: ${job}:1.${n}`, `data: ${JSON.stringify({ n, payload })}`, "", ""];
  return new TextEncoder().encode(Array.from({ length: count }, (_, n) => lines(n).join(end)).join(""));
}

function cut(bytes, size) {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

const tokens = framed(20_000, "token");
const WORKLOADS = {
  "20 000 tokens, 16 KiB pieces": [20_000, cut(tokens, 16_384)],
  "20 000 tokens, one a piece": [20_000, cut(framed(20_000, "token"), Math.ceil(tokens.length / 20_000))],
  "20 000 tokens, CRLF, 16 KiB pieces": [20_000, cut(framed(20_000, "token", "\r\n"), 16_384)],
  "500 previews of 30 kB, 64 KiB pieces": [500, cut(framed(500, "x".repeat(30_000)), 65_536)],
  "1 image of 20 MB, 64 KiB pieces": [1, cut(framed(1, "x".repeat(20_000_000)), 65_536)],
};

// Who decodes.

const DECODERS = {
  "streamapp-client": (chunks) => {
    const decoder = new SSEDecoder();
    let count = 0;
    for (const chunk of chunks) count += decoder.feed(chunk).length;
    return count;
  },
  "eventsource-parser": (chunks) => {
    const decoder = new TextDecoder();
    const events = [];
    const parser = createParser({ onEvent: (event) => events.push(event) });
    for (const chunk of chunks) parser.feed(decoder.decode(chunk, { stream: true }));
    return events.length;
  },
  "@fal-ai/client's parser": (chunks) => {
    const decoder = new TextDecoder("utf-8");
    const events = [];
    const parser = createFalParser((event) => events.push(event));
    for (const chunk of chunks) parser.feed(decoder.decode(chunk));
    return events.length;
  },
};

function answer(chunks) {
  const rest = chunks.values();
  const pull = (controller) => {
    const { done, value } = rest.next();
    done ? controller.close() : controller.enqueue(value);
  };
  return new Response(new ReadableStream({ pull }), { headers: { "Content-Type": "text/event-stream" } });
}

let chunksOfAnswer;
globalThis.fetch = async () => answer(chunksOfAnswer);
const client = new Client("http://127.0.0.1");
const fal = createFalClient({ credentials: "none", fetch: globalThis.fetch });

async function listen(stream) {
  let count = 0;
  stream.on("data", () => count++);
  await stream.done();
  return count;
}

const STREAMS = {
  "streamapp-client, on(...)": async () => listen(await client.stream("/stream")),
  "streamapp-client, loop": async () => {
    let count = 0;
    for await (const _ of await client.stream("/stream")) count++;
    return count;
  },
  "@fal-ai/client, on(...)": async () => listen(await fal.stream("owner/app", { input: {} })),
};

// How it is measured.

/** Return how long one decoding takes, on average over at least 100 ms. */
async function timeOf(decode, count, chunks) {
  globalThis.gc();
  chunksOfAnswer = chunks;
  const start = performance.now();
  let times = 0, ms = 0;
  for (; ms < 100; ms = performance.now() - start, times++) {
    const decoded = await decode(chunks);
    if (decoded !== count) throw new Error(`Expected ${count} events, got ${decoded}`);
  }
  return ms / times;
}

function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

async function measure(candidates, count, chunks) {
  const times = Object.fromEntries(Object.keys(candidates).map((name) => [name, []]));
  for (let round = -1; round < ROUNDS; round++) {
    for (const [name, decode] of Object.entries(candidates)) {
      const ms = await timeOf(decode, count, chunks);
      if (round >= 0) times[name].push(ms); // the first round is for the compiler
    }
  }
  return Object.entries(times).map(([name, all]) => [name, median(all)]);
}

for (const [title, candidates] of [["Bytes to events", DECODERS], ["A whole stream, from fetch to the app", STREAMS]]) {
  console.log(`\n${title}`);
  for (const [workload, [count, chunks]] of Object.entries(WORKLOADS)) {
    const medians = await measure(candidates, count, chunks);
    console.log(`  ${workload}`);
    for (const [name, ms] of medians) {
      console.log(`    ${name.padEnd(26)} ${ms.toFixed(1).padStart(8)} ms  ${(ms / medians[0][1]).toFixed(2)} x`);
    }
  }
}
