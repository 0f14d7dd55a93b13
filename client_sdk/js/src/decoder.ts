/**
 * Decode the bytes of a stream into events; knows no sockets and no JSON.
 *
 * The rules of SSE are the HTML standard's,
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream,
 * held by the byte fixtures in `tests/wire/`, which the Python decoder reads too.
 */

import { StreamappError } from "./errors.js";

/** One event as it stood on the wire; `id` is the last id seen up to it. */
export interface ServerSentEvent {
  name: string;
  data: string;
  id: string;
}

/** A piece of a stream: bytes, or, where `fetch` gives no bytes, the whole text. */
export type Chunk = Uint8Array | string;

/** Turn chunks, cut anywhere, into events. */
export interface Decoder {
  readonly lastEventId?: string;
  readonly retryMs?: number | undefined;
  feed(chunk: Chunk): ServerSentEvent[];
}

/** What one event, line or answer may hold, in characters: a result of some large pictures; as much as in Python. */
export const MOST_CHARACTERS = 128 * 2 ** 20;
// A longer `retry:` is no waiting time that anybody means.
const RETRY = /^\d{1,15}$/;
const ERROR_LINE = /^{"error":.*"error_type":/s;
const COLON = 58;
const SPACE = 32;

/** Turn chunks of SSE, cut anywhere, into events; the time is linear in the bytes, whatever the sizes. */
export class SSEDecoder implements Decoder {
  /** The id to send as `Last-Event-ID` on a reconnect; of the last block that was complete. */
  lastEventId = "";
  /** The reconnection time that the server asked for. */
  retryMs: number | undefined;

  // Node 26 drops a second byte order mark too when the first came in pieces.
  #decode = decoding({ ignoreBOM: true });
  #isAtStart = true;
  #line = ""; // the pieces of the line that is not complete yet; engines join them once, when they are looked at
  #endsWithCr = false;
  #name = "";
  #data: string | undefined;
  #id = "";

  /** Whether the bytes so far end inside a block: of a stream that ends there, the rest was lost. */
  get isInBlock(): boolean {
    return this.#line !== "" || this.#name !== "" || this.#data !== undefined;
  }

  /** Take the next bytes and return the events that they complete. */
  feed(chunk: Chunk): ServerSentEvent[] {
    const events: ServerSentEvent[] = [];
    let text = this.#decode(chunk);
    if (!text) return events;
    if (this.#isAtStart) text = text.replace(/^\ufeff/, "");
    this.#isAtStart = false;
    let start = this.#endsWithCr && text[0] === "\n" ? 1 : 0; // a CRLF cut in two; its CR has ended the line already
    this.#endsWithCr = text.endsWith("\r");
    let cr = next(text, "\r", start);
    let lf = next(text, "\n", start);
    for (let end = Math.min(cr, lf); end < text.length; end = Math.min(cr, lf)) {
      if (this.#line) this.#endCutLine(text.slice(start, end), events);
      else this.#endLine(text, start, end, events);
      start = end + (cr + 1 === lf ? 2 : 1);
      if (cr < start) cr = next(text, "\r", start);
      if (lf < start) lf = next(text, "\n", start);
    }
    this.#line += text.slice(start);
    checkLength("an event", this.#line.length + (this.#data?.length ?? 0));
    return events;
  }

  #endCutLine(rest: string, events: ServerSentEvent[]): void {
    const line = this.#line + rest;
    this.#line = "";
    this.#endLine(line, 0, line.length, events);
  }

  /** Take a line where it stands in a text: to cut it out first would take twice as long. */
  #endLine(text: string, start: number, end: number, events: ServerSentEvent[]): void {
    if (start === end) return this.#endBlock(events);
    let colon = start;
    while (colon < end && text.charCodeAt(colon) !== COLON) colon++;
    const field = text.slice(start, colon);
    const value = text.slice(text.charCodeAt(colon + 1) === SPACE ? colon + 2 : colon + 1, end);
    if (field === "data") this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    else if (field === "event") this.#name = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && RETRY.test(value)) this.retryMs = Number(value);
  }

  #endBlock(events: ServerSentEvent[]): void {
    this.lastEventId = this.#id;
    if (this.#data !== undefined) events.push({ name: this.#name || "message", data: this.#data, id: this.#id });
    this.#name = "";
    this.#data = undefined;
  }
}

/** Return where the next line end of a kind is; behind the text if there is none. */
function next(text: string, end: string, from: number): number {
  const at = text.indexOf(end, from);
  return at < 0 ? text.length : at;
}

/** Return a function that turns chunks into text, and keeps a character that is cut in two. */
export function decoding(options?: TextDecoderOptions): (chunk: Chunk) => string {
  let decoder: TextDecoder; // React Native gives text, and may have none
  return (chunk) =>
    typeof chunk === "string" ? chunk : (decoder ??= new TextDecoder("utf-8", options)).decode(chunk, { stream: true });
}

/** Refuse what would fill the memory. */
export function checkLength(what: string, characters: number): void {
  if (characters <= MOST_CHARACTERS) return;
  throw new StreamappError("unexpected_answer", `Expected ${what} of at most ${MOST_CHARACTERS} characters, got more`);
}

/** Read NDJSON as events without a name; a line that tells an error is one. */
export class LineDecoder implements Decoder {
  #decode = decoding();
  #line = "";

  /** Take the next bytes and return the lines that they complete. */
  feed(chunk: Chunk): ServerSentEvent[] {
    const [end, ...rest] = this.#decode(chunk).split("\n");
    this.#line += end;
    const lines: string[] = [];
    for (const piece of rest) {
      lines.push(this.#line.trim());
      this.#line = piece;
    }
    checkLength("a line", this.#line.length);
    const named = (data: string) => ({ name: ERROR_LINE.test(data) ? "error" : "message", data, id: "" });
    return lines.filter(Boolean).map(named);
  }
}

/** Read plain text as events without a name, piece by piece. */
export class PlainTextDecoder implements Decoder {
  #decode = decoding();

  /** Take the next bytes and return the characters that they complete. */
  feed(chunk: Chunk): ServerSentEvent[] {
    const text = this.#decode(chunk);
    return text ? [{ name: "message", data: JSON.stringify(text), id: "" }] : [];
  }
}
