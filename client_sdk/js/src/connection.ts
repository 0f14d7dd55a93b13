/** Send one request and read its answer, which may not fall silent. */

import { abort, after, either, throwIfAborted } from "./deadline.js";
import { checkLength, type Chunk, decoding } from "./decoder.js";
import { errorFromResponse, StreamappError } from "./errors.js";

export const EVENT_STREAM = "text/event-stream";
export const NDJSON = "application/x-ndjson";
export const TEXT = "text/plain";
export const JSON_TYPE = "application/json";

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MOST_REDIRECTS = 20; // as many as browsers follow

/** What is sent. */
export interface Request {
  method: "GET" | "POST" | "OPTIONS";
  url: string;
  headers: Record<string, string>;
  body?: string | FormData;
  /** Ends it, where that is not what ends the call. */
  signal?: AbortSignal;
  /** Send it though the page closes. */
  keepalive?: boolean;
}

/** How answers are read. */
export interface Reading {
  /** How long nothing may come before a connection counts as cut. */
  silenceMs: number;
  /** Reads JSON. */
  parse: (text: string) => any;
}

/** One answer that is being read. */
export class Connection {
  readonly response: Response;
  /** How long nothing may come before the connection counts as cut. */
  silenceMs: number;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #isRead = false; // where there is no reader
  #controller: AbortController;

  private constructor(response: Response, controller: AbortController, silenceMs: number) {
    this.response = response;
    this.#reader = response.body?.getReader?.();
    this.#controller = controller;
    this.silenceMs = silenceMs;
  }

  /**
   * Send a request, and return its answer if that is a success of one of the expected media types, or has none.
   *
   * @throws StreamappError, also when the signal is aborted.
   */
  static async open(
    request: Request,
    signal: AbortSignal,
    expected: string[],
    { silenceMs, parse }: Reading,
  ): Promise<Connection> {
    const controller = new AbortController();
    const ends = either(request.signal ?? signal, controller.signal);
    const response = await unlessSilent(controller, silenceMs, () => send(request, ends));
    const connection = new Connection(response, controller, silenceMs);
    if (!response.ok) {
      const text = await connection.text().catch(() => ""); // cut off: the status says enough
      throw errorFromResponse(response, text, parse);
    }
    if (connection.isEmpty || expected.includes(mediaTypeOf(response))) return connection;
    const isEmpty = !(await connection.read().catch(() => undefined));
    controller.abort();
    throw isEmpty ? noAnswer(request.url, "it is empty") : unexpected(response, expected);
  }

  /** Whether it is an answer that has no body. */
  get isEmpty(): boolean {
    return this.response.status === 204 || this.response.status === 205;
  }

  /** Whether it comes in pieces; in React Native it does not. */
  get isStreamed(): boolean {
    return this.#reader !== undefined;
  }

  /** Return the next piece, undefined at the end; reject when the connection is cut or falls silent. */
  async read(): Promise<Chunk | undefined> {
    return unlessSilent(this.#controller, this.silenceMs, async () =>
      this.#reader ? (await this.#reader.read()).value : this.#whole(),
    );
  }

  async #whole(): Promise<string | undefined> {
    if (this.#isRead) return undefined;
    this.#isRead = true;
    return (await this.response.text()) || undefined;
  }

  /** Return the whole body; reject when it is empty too. */
  async text(): Promise<string> {
    const decode = decoding();
    const read = () => this.read().catch((cause) => { throw noAnswer(this.response.url, cause); });
    let text = "";
    for (let chunk; (chunk = await read()); ) checkLength("an answer", (text += decode(chunk)).length);
    if (!text) throw noAnswer(this.response.url, "it is empty");
    return text;
  }
}

/** Send a request, once, and return its answer, whatever type it has; throw one that tells an error. */
export async function fetchAnswer(
  request: Request,
  signal: AbortSignal | undefined,
  parse: Reading["parse"],
): Promise<Response> {
  const response = await send(request, signal).catch((error) => {
    if (signal) throwIfAborted(signal);
    throw error;
  });
  if (!response.ok) throw errorFromResponse(response, await response.text().catch(() => ""), parse);
  return response;
}

/**
 * Send a request, and return its answer, from where redirects lead; an input or a key goes to no other origin.
 *
 * A page is not told where they lead: there the browser follows, but with an input only within the page's own origin.
 */
export async function send(request: Request, signal: AbortSignal | undefined): Promise<Response> {
  let { url, method, headers, body } = request;
  const ask = (more: RequestInit) => {
    const options = { ...request, method, headers, body: body ?? null, signal: signal ?? null, ...more };
    return fetch(url, options).catch((cause) => { throw unreachable(url, cause); });
  };
  for (let n = 0; n <= MOST_REDIRECTS; n++) {
    const response = await ask({ redirect: "manual" });
    if (response.type === "opaqueredirect") {
      if (body === undefined) return ask({});
      return ask({ mode: "same-origin" }).catch(() => {
        throw redirected(url, "to another origin than the page's, to which its input is not sent");
      });
    }
    const location = REDIRECTS.has(response.status) && response.headers.get("Location");
    if (!location) return response;
    await response.body?.cancel();
    const next = new URL(location, url).href;
    // By https it would be asked without the input that 301 takes away, and without the key.
    const isUpgrade = hostOf(next) === hostOf(url) && /^http:/i.test(url) && /^https:/i.test(next);
    if (isUpgrade && (body !== undefined || headers.Authorization)) throw redirected(url, `to ${next}`);
    if (response.status <= 303) [method, body] = ["GET", undefined];
    if (originOf(next) !== originOf(url)) {
      if (body !== undefined || !originOf(next)) throw redirected(url, `to ${next}, another origin, to which its input is not sent`);
      headers = { Accept: headers.Accept! };
    }
    url = next;
  }
  throw redirected(request.url, "without an end");
}

function redirected(url: string, where: string): StreamappError {
  return new StreamappError("unexpected_answer", `${url} redirects ${where}; write the URL at which the server answers`);
}

/** Return text as a header carries it: in UTF-8, a character for each byte; `fetch` refuses others. */
export function inBytes(text: string): string {
  return unescape(encodeURIComponent(text));
}

/** Return the scheme and host of a URL, undefined when it has none for HTTP; React Native's URL does not know it. */
export function originOf(url: string): string | undefined {
  return /^https?:\/\/[^/?#\\]+/i.exec(url)?.[0].toLowerCase();
}

function hostOf(url: string): string | undefined {
  return originOf(url)?.replace(/^https?|:\d+$/g, "");
}

/** Say whether a URL is of another origin than the page, whose browser then asks the server whether it may read. */
export function isForeign(url: string): boolean {
  return globalThis.location !== undefined && originOf(url) !== globalThis.location.origin;
}

/** Return the media type without its parameters. */
export function mediaTypeOf(response: Response): string {
  return response.headers.get("Content-Type")?.split(";")[0]!.trim().toLowerCase() ?? "";
}

function unreachable(url: string, cause: any): StreamappError {
  const page = `the server cannot be reached, or does not name ${globalThis.location?.origin} in STREAMAPP_CORS_ORIGINS`;
  return noAnswer(url, cause, cause instanceof TypeError && isForeign(url) ? `; ${page}` : "");
}

function noAnswer(url: string, cause: any, hint = ""): StreamappError {
  const why = cause?.cause?.message || cause?.message || cause;
  // Node's fetch gives up after 5 minutes, and the server cancels the job: sent again, it would run again, as long.
  const retryable = cause?.cause?.code !== "UND_ERR_HEADERS_TIMEOUT";
  return new StreamappError("connection_failed", `No answer from ${url}: ${why}${hint}`, { cause, retryable });
}

async function unlessSilent<T>(controller: AbortController, ms: number, act: () => Promise<T>): Promise<T> {
  const timer = after(ms, () => abort(controller, new Error("no heartbeat came")));
  try {
    return await act();
  } finally {
    clearTimeout(timer);
  }
}

function unexpected(response: Response, expected: string[]): StreamappError {
  const mediaType = mediaTypeOf(response);
  const call = { [JSON_TYPE]: "run", [EVENT_STREAM]: "stream" }[mediaType];
  const came = `HTTP ${response.status} with ${mediaType || "no type"}`;
  const hint = call ? `; write client.${call}(...)` : "";
  return new StreamappError("unexpected_answer", `Expected ${expected[0]} from ${response.url}, got ${came}${hint}`, {
    status: response.status,
    jobId: response.headers.get("X-Streamapp-Job-Id") ?? undefined,
  });
}

/** Decode JSON, or throw with the text. */
export function decodeJson(text: string, where: string, parse: Reading["parse"]): any {
  try {
    return parse(text);
  } catch (cause) {
    const message = `Expected JSON in ${where}, got ${JSON.stringify(text.slice(0, 80))}: ${cause}`;
    throw new StreamappError("unexpected_answer", message, { data: text, cause });
  }
}
