/** Code that asks as OpenAI's own client for Python does: what stands in the form, in the shape of its API. */

import { type Fields, isRecord } from "../runs/schema";
import { type Call, imports, isOpenais, KEY } from "./call";
import { pythonCall } from "./literals";

// By path: what its method takes by name; what else the model takes goes into `extra_body`.
const SAMPLING = ["max_tokens", "temperature", "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"];
const CHAT = ["max_completion_tokens", "top_logprobs", "tools", "tool_choice"];
const OTHER_SAMPLING = ["top_k", "min_p", "repetition_penalty"];
const IMAGES = ["quality", "background", "style", "moderation", "output_format", "output_compression", "size", "n"];
const SPEECH = ["speed", "instructions", "response_format"];
// How it is answered, which the code decides.
const OURS = ["model", "stream", "partial_images"];
const SAID = ["input", "text", "prompt"];
const MOST_IMAGES = 10;

type Write = (call: Call, model: string) => string;

const PATHS: Record<string, Write> = {
  "/v1/chat/completions": chat,
  "/v1/completions": completion,
  "/v1/images/generations": images,
  "/v1/audio/speech": speech,
};

/** Return the code; undefined where the endpoint cannot be asked so. */
export function openai(call: Call): string | undefined {
  const { server, hasKey, clients: { openai: client }, all } = call;
  const write = client && PATHS[client.path];
  if (!write) return undefined;
  const model = isOpenais(call) && typeof all.model === "string" ? all.model : client.model;
  return `${imports(call, ...(write === images ? ["base64"] : []))}from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(`${server}/v1`)}, api_key=${hasKey ? KEY : '"none"'})
${write(call, model)}`;
}

function chat(call: Call, model: string): string {
  const { all } = call;
  const given = { model, messages: all.messages ?? [], ...sampling(all, [...SAMPLING, ...CHAT]) };
  return told(call, "client.chat.completions.create", given, "delta.content", "message.content");
}

function completion(call: Call, model: string): string {
  const given = { model, prompt: call.all.prompt ?? "", ...sampling(call.all, SAMPLING) };
  return told(call, "client.completions.create", given, "text", "text");
}

/** All fields, also those that are as the form has them: the protocol's own defaults are others. */
function sampling(all: Fields, names: string[]): Fields {
  const isGiven = (value: unknown) => value !== undefined && value !== null && value !== "" && !(Array.isArray(value) && !value.length);
  const given = Object.fromEntries(Object.entries(all).filter(([, value]) => isGiven(value)));
  return { ...pick(given, names), ...extra(pick(given, OTHER_SAMPLING)) };
}

function told(call: Call, name: string, given: Fields, piece: string, whole: string): string {
  if (call.kind !== "stream" && !call.all.stream) return `answer = ${pythonCall(name, given)}\nprint(answer.choices[0].${whole})\n`;
  return `stream = ${pythonCall(name, { ...given, stream: true })}
for chunk in stream:
    print(chunk.choices[0].${piece} or "", end="", flush=True)
print()
`;
}

function images(call: Call, model: string): string {
  const { prompt = "", ...fields } = sized(call);
  const rest = without(fields, [...OURS, "response_format", ...IMAGES]);
  const given = { model, prompt, ...pick(fields, IMAGES), ...(call.kind === "stream" && { stream: true, partial_images: 2 }), ...extra(rest) };
  const save = (picture: string) => `    name = f"image-{n}.${fields.output_format ?? "png"}"
    with open(name, "wb") as file:
        file.write(base64.b64decode(${picture}.b64_json))
`;
  if (call.kind !== "stream") return `answer = ${pythonCall("client.images.generate", given)}
for n, image in enumerate(answer.data):
${save("image")}    print(name)
`;
  return `stream = ${pythonCall("client.images.generate", given)}
for n, event in enumerate(stream):
${save("event")}    print(event.type, name)
`;
}

/** Return the fields, with size and number as OpenAI has them. */
function sized({ body, all }: Call): Fields {
  const { width, height, image_size: size, num_images: n, ...others } = body as Fields;
  const sides = isRecord(size) ? [size.width, size.height] : [width, height];
  const isSized = sides.every((side) => typeof side === "number");
  const isCounted = typeof n === "number" && n <= MOST_IMAGES && !("n" in all);
  return defined({
    ...(isSized ? { size: sides.join("x") } : { width, height, image_size: size }),
    ...(isCounted ? { n } : { num_images: n }),
    ...others,
  });
}

function speech({ body, all }: Call, model: string): string {
  const name = SAID.find((each) => each in all) ?? "prompt";
  const { [name]: text = "", voice = "alloy", ...fields } = defined(body as Fields);
  const given = { model, voice, input: text, ...pick(fields, SPEECH), ...extra(without(fields, [...OURS, ...SPEECH])) };
  return `with ${pythonCall("client.audio.speech.with_streaming_response.create", given)} as answer:
    kind = answer.headers["Content-Type"].split("/")[1]
    answer.stream_to_file(f"speech.{kind}")
print(f"speech.{kind}")
`;
}

function pick(fields: Fields, names: string[]): Fields {
  return Object.fromEntries(names.filter((name) => name in fields).map((name) => [name, fields[name]]));
}

function without(fields: Fields, names: string[]): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}

function defined(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}

function extra(fields: Fields): Fields {
  return Object.keys(fields).length ? { extra_body: fields } : {};
}
