/**
 * Carry one stream over as many connections as it takes: start, read, lose, resume.
 *
 * Chromium takes an answer that is cut inside its head for one that is complete and empty, with the headers that came.
 * So no answer is trusted that lacks what it must have: a type, an event, the whole id of a job.
 */

import { Connection, decodeJson, EVENT_STREAM, inBytes, JSON_TYPE, mediaTypeOf, NDJSON, type Reading, type Request, TEXT } from "./connection.js";
import { LONGEST_JOB_MS, throwIfAborted } from "./deadline.js";
import { type Chunk, type Decoder, LineDecoder, PlainTextDecoder, type ServerSentEvent, SSEDecoder } from "./decoder.js";
import { errorFromEvent, StreamappError } from "./errors.js";
import { type Body, headersOf } from "./inputs.js";
import type { Patience } from "./patience.js";

/** One event of a job. */
export interface StreamEvent<Data = any> {
  /** preview, output, progress, log, lagged, or the app's own; "message" where the server gave none. */
  name: string;
  /** The decoded JSON. */
  data: Data;
  /** Its place in the job; ids rise, with holes. */
  id: string;
}

/** How connections are treated. */
export interface Manners extends Reading {
  /** Where the server is, without a "/" at the end. */
  url: string;
  headers: Record<string, string>;
  resumeWindowMs: number;
}

/** What is read: a job that a request starts, or one that exists already. */
export interface Subject {
  url?: string;
  body?: Body;
  accept?: string | undefined;
  jobId?: string;
  /** The id of the event to begin behind. */
  after?: string | undefined;
  /** Hear how the job is as well: `started`, and `job` with each change of its state or place. */
  follows?: boolean;
}

const JOB_ID = /^[0-9a-f]{32}$/;
const DECODERS: Record<string, new () => Decoder> = {
  [EVENT_STREAM]: SSEDecoder,
  [NDJSON]: LineDecoder,
  [TEXT]: PlainTextDecoder,
};
// "\n", which other servers leave out behind their last line.
const LINE_END = "\n";
// The last event that has none of these names is the job's result.
const NEVER_THE_RESULT: ReadonlySet<string> = new Set(["preview", "progress", "log", "input_error", "lagged", "job", "started"]);
// No answer, and what is refused before a job exists, and may be granted later: 502 and 504 are a proxy's, when no job
// is named.
const PASSING: ReadonlySet<number | undefined> = new Set([undefined, 429, 502, 503, 504]);

/** Hold what a job has come to: the data of its last lasting event. */
export class Outcome {
  isThere = false;
  data: any;

  /** Take the next event; what the attempt before a restart has brought does not count any more. */
  take(name: string, data: any): void {
    if (NEVER_THE_RESULT.has(name)) return;
    this.isThere = name !== "restarted";
    this.data = this.isThere ? data : undefined;
  }
}

/** What brings the events of one job. */
export interface Source {
  /** The job that speaks; undefined when the server has no jobs, or has not said it yet. */
  readonly jobId: string | undefined;
  /** The data of the last lasting event, once the stream has ended well. */
  readonly result: any;
  /** Whether the job needs no cancel: it has ended, or its server has lost us anyway. */
  readonly isOver: boolean;
  /** How often the connection was lost and resumed. */
  readonly reconnects: number;
  /** Called when the connection is lost, with what lost it, and, without that, when it is there. */
  onConnection: (lost?: unknown) => void;
  /** Yield every event once, in order. */
  events(): AsyncGenerator<StreamEvent, void>;
}

/** Hold one stream: what was sent for it, what came, and how often it was lost. */
export class Conversation implements Source {
  jobId: string | undefined;
  result: any;
  isOver = false;
  reconnects = 0;
  onConnection: (lost?: unknown) => void = () => {};

  #manners: Manners;
  #subject: Subject;
  #patience: Patience;
  #signal: AbortSignal;
  #key = idempotencyKey();
  #connection!: Connection;
  #decoder: Decoder = new SSEDecoder();
  #lastEventId: string | undefined;
  #isGet = false;
  #isDone = false;
  #hasEvents = false;
  #outcome = new Outcome();

  constructor(manners: Manners, subject: Subject, patience: Patience, signal: AbortSignal) {
    this.#manners = manners;
    this.#subject = subject;
    this.#patience = patience;
    this.#signal = signal;
    this.jobId = subject.jobId;
    this.#lastEventId = subject.after;
  }

  /** Get the answer that the events come in; returns when the first one has begun, or the stream is over. */
  async start(): Promise<void> {
    const expected = this.jobId === undefined ? [EVENT_STREAM, NDJSON, TEXT] : [EVENT_STREAM];
    for (;;) {
      try {
        // Without streams an answer comes when it is whole: React Native's `fetch` says nothing before.
        const isStreamed = globalThis.Response && "body" in Response.prototype;
        const silenceMs = isStreamed ? this.#manners.silenceMs : this.#longSilenceMs;
        const reading = { ...this.#manners, silenceMs };
        const connection = await Connection.open(this.#request(), this.#signal, expected, reading);
        return connection.isEmpty ? this.#end() : this.#begin(connection);
      } catch (error) {
        this.#check(error);
        await this.#wait(error);
      }
    }
  }

  async *events(): AsyncGenerator<StreamEvent, void> {
    while (!this.isOver) {
      let lost: unknown;
      const read = () => this.#connection.read().catch((error) => void (lost = error));
      for (let chunk; (chunk = await read()); ) yield* this.#take(chunk);
      if (lost === undefined && this.#decoder instanceof LineDecoder) yield* this.#take(LINE_END);
      if (lost === undefined && this.#isComplete) return this.#end();
      if (!this.#canResume) throw this.#interrupted(lost);
      this.onConnection(lost ?? new StreamappError("connection_failed", "The stream ended before its job"));
      await this.#wait(lost);
      this.reconnects++;
      await this.start();
      this.onConnection();
    }
  }

  /** Return how long there may be silence where no heartbeat is heard. */
  get #longSilenceMs(): number {
    return Math.max(this.#manners.silenceMs, LONGEST_JOB_MS);
  }

  /** Say whether the stream may end where the body does: that of a GET says `done` before, another brings a result. */
  get #isComplete(): boolean {
    if (this.#isGet) return this.#isDone;
    return !(this.#decoder instanceof SSEDecoder) || (this.#outcome.isThere && !this.#decoder.isInBlock);
  }

  /** Say whether what was lost can be asked for again: the rest of the job, or all, under the same key. */
  get #canResume(): boolean {
    return this.#decoder instanceof SSEDecoder && (this.jobId !== undefined || !this.#hasEvents);
  }

  #request(): Request {
    const { url, headers, resumeWindowMs } = this.#manners;
    const { url: startUrl, body, accept = EVENT_STREAM } = this.#subject;
    const shared: Record<string, string> = { ...headers, Accept: accept };
    if (accept === EVENT_STREAM) shared["Streamapp-Resume"] = String(resumeWindowMs / 1000); // others cannot be resumed
    if (this.jobId !== undefined) {
      const resuming = { ...shared, "Last-Event-ID": inBytes(this.#lastEventId || `${this.jobId}:1.0`) };
      const all = this.#subject.follows ? "all&_events=" : ""; // older servers do not know "all", and take the last
      return { method: "GET", url: `${url}/jobs/${encodeURIComponent(this.jobId)}/events?_events=${all}named`, headers: resuming };
    }
    const starting = { ...shared, ...headersOf(body!), "Idempotency-Key": this.#key };
    return { method: "POST", url: startUrl!, headers: starting, body: body! };
  }

  #begin(connection: Connection): void {
    this.#patience.answered();
    this.#isGet = this.jobId !== undefined;
    this.jobId ??= JOB_ID.exec(connection.response.headers.get("X-Streamapp-Job-Id") ?? "")?.[0];
    this.#connection = connection;
    this.#decoder = new DECODERS[mediaTypeOf(connection.response)]!(); // what was cut off comes again in full
    const isMute = this.#decoder instanceof PlainTextDecoder || !connection.isStreamed;
    connection.silenceMs = isMute ? this.#longSilenceMs : this.#manners.silenceMs;
  }

  *#take(chunk: Chunk): Generator<StreamEvent> {
    this.#patience.heard();
    for (const raw of this.#decoder.feed(chunk)) {
      throwIfAborted(this.#signal);
      if (this.#isGet && raw.name === "done") this.#isDone = true;
      else if (!this.#isGet || raw.name !== "job" || this.#subject.follows) yield this.#read(raw);
    }
    this.#lastEventId = this.#decoder.lastEventId || this.#lastEventId;
  }

  #read({ name, data: text, id }: ServerSentEvent): StreamEvent {
    const data = decodeJson(text, `the event "${name}"`, this.#manners.parse);
    if (name === "error" || name === "cancelled") {
      this.isOver = true;
      throw errorFromEvent(name, data, this.jobId);
    }
    this.#outcome.take(name, data);
    this.#hasEvents = true;
    if (name !== "job") this.#patience.renew(); // each connection begins with one
    return { name, data, id };
  }

  #end(): void {
    this.isOver = true;
    this.result = this.#outcome.data;
  }

  /** Throw a refusal that will not pass. */
  #check(error: unknown): void {
    throwIfAborted(this.#signal);
    if (mayPass(error, this.jobId !== undefined)) return;
    this.isOver = true;
    const isGone = this.reconnects > 0 && (error as StreamappError).status === 404;
    throw isGone ? this.#interrupted(error) : error;
  }

  /** Wait before the next try, or throw what lost the stream. */
  async #wait(error: unknown): Promise<void> {
    if (await this.#patience.wait(error, this.#signal, this.#decoder.retryMs)) return;
    throw this.jobId === undefined && error ? error : this.#interrupted(error);
  }

  #interrupted(error: any): StreamappError {
    throwIfAborted(this.#signal);
    this.isOver = true;
    const why = error?.message ?? "it ended before its job";
    const message = `The stream of job ${this.jobId} broke off: ${why}`;
    return new StreamappError("stream_interrupted", message, { jobId: this.jobId, cause: error });
  }
}

/** Send a request until it is answered, and return the JSON of its answer. */
export async function readJson(
  request: Request,
  patience: Patience,
  signal: AbortSignal,
  reading: Reading,
): Promise<any> {
  for (;;) {
    try {
      const answer = await Connection.open(request, signal, [JSON_TYPE], reading);
      patience.answered();
      if (answer.isEmpty) return null;
      return decodeJson(await answer.text(), `the answer of ${request.url}`, reading.parse);
    } catch (error) {
      throwIfAborted(signal);
      // A proxy that has waited for a value in vain would do so again, while the endpoint ran a second time.
      const isLate = request.body && (error as StreamappError).status === 504;
      if (isLate || !mayPass(error) || !(await patience.wait(error, signal))) throw error;
    }
  }
}

/** Say whether the same request may be granted later; a job that has started, and failed, may not. */
export function mayPass(error: unknown, isResume = false): boolean {
  if (!(error instanceof StreamappError)) return false;
  return error.retryable && PASSING.has(error.status) && (isResume || error.jobId === undefined);
}

/** Return a key under which a request, sent twice, acts once; nothing has to be secret about it. */
export function idempotencyKey(): string {
  const numbers = drawn() ?? Array.from("1234", () => Math.random() * 2 ** 32 >>> 0);
  return numbers.join("-");
}

/** Return 128 random bits that nobody can guess; undefined where the engine has none. */
export function drawn(): Uint32Array | undefined {
  // `randomUUID` is missing on pages without TLS, `crypto` as a whole in React Native.
  return globalThis.crypto?.getRandomValues(new Uint32Array(4));
}
