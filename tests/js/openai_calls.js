// Calls of OpenAI's own JavaScript client, and of vercel's `ai`, all at once. Prints {name: what came of it}.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage, generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";

const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey } = process.env;
const client = new OpenAI({ maxRetries: 0 });
const provider = createOpenAICompatible({ name: "ours", baseURL, apiKey, includeUsage: true });
const [words, once] = [provider("echo"), { maxRetries: 0 }];
const said = (content) => [{ role: "user", content }];
const chat = (content, more = {}) => client.chat.completions.create({ model: "echo", messages: said(content), ...more });
const told = (error) => [error.constructor.name, error.status ?? error.statusCode ?? null, error.code ?? null, error.param ?? null];
const left = async () => (await fetch(new URL("/left", baseURL), { method: "POST", headers: { Authorization: `Bearer ${apiKey}` } })).json();
const schema = { type: "object", properties: { city: { type: "string" } } };

const read = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};
const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

const calls = {
  async chats() {
    const answer = await chat("one two three", { n: 2, seed: 7, stop: ["four"] });
    return { texts: answer.choices.map((choice) => choice.message.content), usage: answer.usage, id: answer.id };
  },
  async streams() {
    const chunks = await read(await chat("one two three", { stream: true, stream_options: { include_usage: true } }));
    return { text: text(chunks), finish: chunks.at(-2).choices[0].finish_reason, usage: chunks.at(-1).usage };
  },
  async stops() {
    const chunks = await read(await chat("one two three", { stream: true, stop: "two t" }));
    return [text(chunks), (await chat("one two three", { max_tokens: 2 })).choices[0].finish_reason];
  },
  async logprobs() {
    const answer = await chat("one two", { logprobs: true, top_logprobs: 1 });
    return answer.choices[0].logprobs.content.map((each) => [each.token, each.logprob, each.top_logprobs.length]);
  },
  async calls() {
    const tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
    const stream = client.chat.completions.stream({ model: "echo", messages: said("Bern?"), tools });
    const { choices } = await stream.finalChatCompletion();
    return [choices[0].finish_reason, choices[0].message.tool_calls[0].function];
  },
  async completes() {
    return (await client.completions.create({ model: "echo", prompt: "one two" })).choices[0].text;
  },
  async models() {
    const listed = await read(await client.models.list());
    return [listed.map((model) => model.id), (await client.models.retrieve("echo")).id];
  },
  async pictures() {
    const asked = { model: "echo", prompt: "red", size: "16x16", stream: true, partial_images: 2 };
    return (await read(await client.images.generate(asked))).map((event) => [event.type, event.size]);
  },
  async speaks() {
    const answer = await client.audio.speech.create({ model: "echo", voice: "alloy", input: "ab cd", response_format: "pcm" });
    return Buffer.from(await answer.arrayBuffer()).toString();
  },
  async leaves() {
    const stream = await chat("count", { stream: true });
    for await (const _ of stream) break;
    return left();
  },
  errors: () =>
    Promise.all([
      chat("one", { model: "nowhere" }).catch(told),
      chat("one", { temperature: 9 }).catch(told),
      chat("raise").catch(told),
      chat("busy").catch(told),
      chat("refuse", { stream: true }).then(read).catch(told),
      new OpenAI({ apiKey: "another", maxRetries: 0 }).models.list().catch(told),
    ]),
  async aiGenerates() {
    const { text, finishReason, usage } = await generateText({ model: words, prompt: "one two", maxOutputTokens: 9, ...once });
    return [text, finishReason, usage.inputTokens, usage.outputTokens];
  },
  async aiStreams() {
    const result = streamText({ model: words, messages: said("one two three"), stopSequences: ["three"], ...once });
    return [(await read(result.textStream)).join(""), await result.finishReason, (await result.usage).outputTokens];
  },
  async aiCalls() {
    const tools = { weather: tool({ inputSchema: jsonSchema(schema) }) };
    const { toolCalls } = await generateText({ model: words, prompt: "Bern?", tools, ...once });
    return toolCalls.map((call) => [call.toolName, call.input]);
  },
  async aiDraws() {
    const { images } = await generateImage({ model: provider.imageModel("echo"), prompt: "red", n: 2, size: "16x16", ...once });
    return images.map((image) => image.mediaType);
  },
  async aiLeaves() {
    const leaving = new AbortController();
    const { textStream } = streamText({ model: words, prompt: "count", abortSignal: leaving.signal, ...once });
    for await (const _ of textStream) leaving.abort();
    return left();
  },
  aiErrors: () =>
    Promise.all([
      generateText({ model: provider("nowhere"), prompt: "one", ...once }).catch(told),
      generateText({ model: words, prompt: "raise", ...once }).catch(told),
      generateText({ model: words, prompt: "busy", ...once }).catch(told),
    ]),
};

const outcomes = await Promise.all(Object.values(calls).map((call) => call().catch((error) => ({ failed: String(error.stack) }))));
console.log(JSON.stringify(Object.fromEntries(Object.keys(calls).map((name, index) => [name, outcomes[index]]))));
