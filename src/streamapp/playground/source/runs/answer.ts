/** Read what an endpoint answers by a `Response` of its own: pieces, as they come, by its type. */

import { parseJson, SSEDecoder } from "streamapp-client";

import type { Media } from "./content";

/** A part of the answer: an event or a value, a piece of its text, or the whole as a file. */
export type Piece = { name: string; data: unknown } | { text: string } | { file: Media };

const JSON_TYPE = /^application\/([\w.-]+\+)?json$/;
const LINES_TYPE = /^application\/.*(ndjson|jsonl)/;
const TEXT_TYPE = /^$|^text\/|^application\/.*(xml|yaml|javascript)$/; // a stream is often sent without a type

/** Return the media type without its parameters; "" where there is none. */
export function typeOf(response: Response): string {
  return response.headers.get("Content-Type")?.split(";")[0]!.trim().toLowerCase() ?? "";
}

/** Yield what comes; of a type that is not to be read as text, the whole as one file. */
export async function* piecesOf(response: Response): AsyncGenerator<Piece> {
  const type = typeOf(response);
  if (type === "text/event-stream") yield* eventsOf(response);
  else if (LINES_TYPE.test(type)) yield* linesOf(response);
  else if (JSON_TYPE.test(type)) yield* outputsOf([await response.text()]);
  else if (TEXT_TYPE.test(type)) for await (const text of textOf(response)) yield { text };
  else yield* fileOf(response, type);
}

async function* bytesOf(response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader(); // not every browser iterates over a body
  for (let step; reader && !(step = await reader.read()).done; ) yield step.value;
}

async function* textOf(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  for await (const bytes of bytesOf(response)) {
    const text = decoder.decode(bytes, { stream: true });
    if (text) yield text;
  }
}

/** What ends a stream of OpenAI's; among words it is one. */
const DONE = "[DONE]";

async function* eventsOf(response: Response): AsyncGenerator<Piece> {
  const decoder = new SSEDecoder();
  let isText: boolean | undefined; // the first event decides: among words, "7" is a word
  for await (const bytes of bytesOf(response)) {
    for (const { name, data } of decoder.feed(bytes)) {
      if (data === DONE && isText === false) continue;
      const value = isText ? undefined : jsonOf(data);
      isText ??= value === undefined;
      yield { name: name === "message" ? "output" : name, data: value === undefined ? data : value };
    }
  }
}

async function* linesOf(response: Response): AsyncGenerator<Piece> {
  let rest = "";
  for await (const text of textOf(response)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* outputsOf(lines);
  }
  yield* outputsOf([rest]);
}

function outputsOf(texts: string[]): Piece[] {
  return texts.filter((text) => text.trim()).map((text) => ({ name: "output", data: jsonOf(text) ?? text }));
}

/** Return the value of a JSON text; undefined when it is none. */
function jsonOf(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return undefined;
  }
}

async function* fileOf(response: Response, content_type: string): AsyncGenerator<Piece> {
  const blob = await response.blob();
  const reader = new FileReader();
  const url = await new Promise<string>((resolve, reject) => {
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  const file: Media = { url, content_type, ...fileNameIn(response.headers.get("Content-Disposition") ?? "") };
  if (blob.size) yield { file };
}

function fileNameIn(disposition: string): { file_name?: string } {
  const [, name] = /filename="([^"]+)"/i.exec(disposition) ?? /filename\*=utf-8''([\w.%-]+)/i.exec(disposition) ?? [];
  return name ? { file_name: name } : {};
}
