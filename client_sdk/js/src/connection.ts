/** Send one request and read its answer, which may not fall silent. */

import { after } from "./deadline.js";
import { errorFromResponse, StreamappError } from "./errors.js";

export const EVENT_STREAM = "text/event-stream";
export const NDJSON = "application/x-ndjson";
export const TEXT = "text/plain";
export const JSON_TYPE = "application/json";

/** What is sent. */
export interface Request {
  method: "GET" | "POST";
  url: string;
  headers: Record<string, string>;
  body?: string;
  /** Ends it, where that is not what ends the call. */
  signal?: AbortSignal;
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
  #controller: AbortController;

  private constructor(response: Response, controller: AbortController, silenceMs: number) {
    this.response = response;
    this.#reader = response.body?.getReader();
    this.#controller = controller;
    this.silenceMs = silenceMs;
  }

  /**
   * Send a request, and return its answer if that is a success of one of the expected media types, or 204.
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
    const options = { ...request, signal: AbortSignal.any([request.signal ?? signal, controller.signal]) };
    const answer = unlessSilent(controller, silenceMs, () => fetch(request.url, options));
    const response = await answer.catch((cause) => { throw noAnswer(request.url, cause); });
    const connection = new Connection(response, controller, silenceMs);
    if (!response.ok) {
      const text = await connection.text().catch(() => ""); // cut off: the status says enough
      throw errorFromResponse(response, text, parse);
    }
    if (response.status === 204 || expected.includes(mediaTypeOf(response))) return connection;
    const isEmpty = !(await connection.read().catch(() => undefined));
    controller.abort();
    throw isEmpty ? noAnswer(request.url, "it is empty") : unexpected(response, expected);
  }

  /** Return the next bytes, undefined at the end; reject when the connection is cut or falls silent. */
  async read(): Promise<Uint8Array | undefined> {
    return (await unlessSilent(this.#controller, this.silenceMs, () => this.#reader!.read())).value;
  }

  /** Return the whole body; reject when it is empty too. */
  async text(): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    try {
      for (let chunk; (chunk = await this.read()); ) text += decoder.decode(chunk, { stream: true });
    } catch (cause) {
      throw noAnswer(this.response.url, cause);
    }
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
  const response = await fetch(request.url, { ...request, signal: signal ?? null }).catch((cause) => {
    signal?.throwIfAborted();
    throw noAnswer(request.url, cause);
  });
  if (!response.ok) throw errorFromResponse(response, await response.text().catch(() => ""), parse);
  return response;
}

/** Return the media type without its parameters. */
export function mediaTypeOf(response: Response): string {
  return response.headers.get("Content-Type")?.split(";")[0]!.trim().toLowerCase() ?? "";
}

function noAnswer(url: string, cause: any): StreamappError {
  const why = cause?.cause?.message || cause?.message || cause;
  // Node's fetch gives up after 5 minutes, and the server cancels the job: sent again, it would run again, as long.
  const retryable = cause?.cause?.code !== "UND_ERR_HEADERS_TIMEOUT";
  return new StreamappError("connection_failed", `No answer from ${url}: ${why}`, { cause, retryable });
}

async function unlessSilent<T>(controller: AbortController, ms: number, act: () => Promise<T>): Promise<T> {
  const timer = after(ms, () => controller.abort(new Error("no heartbeat came")));
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
    const message = `Expected JSON in ${where}, got ${JSON.stringify(text.slice(0, 80))}`;
    throw new StreamappError("unexpected_answer", message, { data: text, cause });
  }
}
