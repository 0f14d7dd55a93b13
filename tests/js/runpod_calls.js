// Calls of Runpod's own JavaScript client, all at once. Prints {name: what came of it}.
import runpodSdk from "runpod-sdk";

const { RUNPOD_ENDPOINT_BASE_URL: baseUrl, RUNPOD_KEY } = process.env;
const { log } = console;
console.log = () => {}; // the client tells each status there
const endpoint = (id, key = RUNPOD_KEY) => runpodSdk(key, { baseUrl }).endpoint(id);
const told = (error) => ({ status: error.response?.status, message: error.message });

const real = globalThis.fetch;
const asked = [];
globalThis.fetch = (url, ...rest) => {
  asked.push(String(url.url ?? url));
  return real(url, ...rest);
};

const items = endpoint("runpod_items"), tokens = endpoint("runpod_tokens"), answers = endpoint("runpod_answers");

const calls = {
  async runs() {
    const ran = await items.run({ input: { items: 2 } });
    const waited = await items.statusSync(ran.id);
    return { ran, waited, status: await items.status(ran.id) };
  },
  async streams() {
    const { id } = await items.run({ input: { items: 4 } });
    const seen = [];
    for await (const item of items.stream(id)) seen.push(item.output);
    return { seen, polls: asked.filter((url) => url.includes(`/stream/${id}`)).length };
  },
  async runsSync() {
    const inputs = [{ answer: [1, "two"] }, { raises: "a plain reason" }];
    return Promise.all(inputs.map((input) => answers.runSync({ input })));
  },
  async cancels() {
    const { id } = await tokens.run({ input: { tokens: 1, until: "/nowhere", cancelled: "/dev/null" } });
    let cancelled, first;
    for await (const item of tokens.stream(id)) {
      first ??= item.output;
      cancelled ??= await tokens.cancel(id);
    }
    return { first, cancelled, status: await tokens.status(id) };
  },
  async policy() {
    const policy = { executionTimeout: 60_000, ttl: 600_000, lowPriority: true };
    return answers.runSync({ input: { answer: 1 }, policy });
  },
  health: () => items.health(),
  purges: () => endpoint("fal-calls--slow").purgeQueue(),
  wrongKey: () => endpoint("runpod_items", "another").run({ input: {} }).catch(told),
  unknown: () => endpoint("nowhere").run({ input: {} }).catch(told),
  webhook: () => answers.run({ input: {}, webhook: "https://example.com/done" }).catch(told),
};

const outcomes = await Promise.all(Object.values(calls).map((call) => call().catch(told)));
log(JSON.stringify(Object.fromEntries(Object.keys(calls).map((name, index) => [name, outcomes[index]]))));
