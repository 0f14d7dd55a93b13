/** Call a streamapp server. */

import { inBytes } from "./connection.js";
import { Deadline, type Limits, LONGEST_JOB_MS, outlasting, throwIfAborted } from "./deadline.js";
import { StreamappError } from "./errors.js";
import { bodyOf } from "./inputs.js";
import { follow, JobHandle } from "./job.js";
import { parseJson, stringifyJson } from "./json.js";
import { type JobStatus, Server } from "./server.js";
import type { Session } from "./session.js";
import { PROTOCOL, type SocketMaker } from "./socket.js";
import type { Stream } from "./stream.js";

export interface ClientOptions {
  /** The server's API key, sent as `Authorization: Key ...`. */
  key?: string;
  /** How long to go on trying, without any progress, when a connection is lost or the server is busy; 30 s. */
  patienceMs?: number;
  /** How long the server shall keep a stream's job running for a reader that was cut off; 10 s. */
  resumeWindowMs?: number;
  /**
   * How long a stream may say nothing before it counts as cut; 45 s. The server sends a heartbeat every 10 s, but none
   * in plain text, which is given 11 minutes.
   */
  silenceMs?: number;
  /** How integers beyond `Number.MAX_SAFE_INTEGER` come: rounded to numbers, which is the default, or as BigInts. */
  largeIntegers?: "number" | "bigint";
  /** What opens the sockets of `connect`, where the engine has no `WebSocket`: Node 20, with the package `ws`. */
  WebSocket?: SocketMaker;
}

export interface CallOptions extends Limits {
  /** The endpoint's arguments: what JSON holds, BigInts, Blobs, Files and bytes; or a `FormData`, for uploads. */
  input?: unknown;
}

export interface StreamOptions extends CallOptions {
  /** The format; lines and text come as events named "message", and cannot be resumed. */
  accept?: "text/event-stream" | "application/x-ndjson" | "text/plain";
}

export interface SubscribeOptions extends CallOptions {
  /** Called with each change of the job's state or place in the queue. */
  onQueueUpdate?: (status: JobStatus) => void;
  /** Call it with new lines of the job's log too. */
  logs?: boolean;
}

export interface ConnectOptions extends Limits {
  /** An input that waits to be sent is replaced by the next one: of a canvas, say, only the newest state counts. */
  newest?: boolean;
  /**
   * Go by WebRTC, where the method is marked `webrtc=True`: its images come as video, `session.video`.
   *
   * It needs a browser, and a network that lets UDP through; where no connection comes about in 15 s the session fails
   * with "connection_failed".
   */
  webrtc?: boolean;
}

/** Call one streamapp server; a client holds no connection, and needs no closing. */
export class Client {
  #server: Server;
  #key: string | undefined;
  #Socket: SocketMaker | undefined;

  /** `url` is where the server is, without the path of an endpoint; in a page it may be relative: "/". */
  constructor(
    url: string | URL,
    { key, patienceMs = 30_000, resumeWindowMs = 10_000, silenceMs = 45_000, largeIntegers, WebSocket }: ClientOptions = {},
  ) {
    const headers: Record<string, string> = key === undefined ? {} : { Authorization: inBytes(`Key ${key}`) };
    const base = new URL(String(url), globalThis.location?.href).href.replace(/[/?#]+$/, "");
    const parse = largeIntegers === "bigint" ? parseJson : JSON.parse;
    this.#server = new Server({ url: base, headers, resumeWindowMs, silenceMs, parse }, patienceMs);
    this.#key = key;
    this.#Socket = WebSocket;
  }

  /** Start a job and return its events once the server begins to answer, which takes a second at most. */
  async stream<Result = any>(path: string, { input, accept, ...limits }: StreamOptions = {}): Promise<Stream<Result>> {
    return this.#server.stream({ url: this.#server.urlOf(path), body: await bodyOf(input), accept }, limits);
  }

  /** Call an endpoint that returns one JSON value, and return it; gives up after 11 minutes if not told otherwise. */
  async run<Result = any>(
    path: string,
    { input, signal, timeoutMs = LONGEST_JOB_MS }: CallOptions = {},
  ): Promise<Result> {
    return new Deadline({ signal, timeoutMs }).hold(async (signal) =>
      this.#server.json(await this.#server.post(path, input), signal, timeoutMs),
    );
  }

  /**
   * Call an endpoint that answers by a `Response` of its own, and return it, to be read as any of `fetch`'s.
   *
   * It is sent once: what is lost is not asked for again. A signal that is aborted ends the reading, and the job.
   */
  async fetch(path: string, { input, signal }: Omit<CallOptions, "timeoutMs"> = {}): Promise<Response> {
    return this.#server.fetch(path, input, signal);
  }

  /** Start a job that runs on without readers, and return its handle; a call that ends early cancels the job. */
  async submit<Result = any>(path: string, { input, ...limits }: CallOptions = {}): Promise<JobHandle<Result>> {
    return new Deadline(limits).hold(async (signal) => {
      const request = await this.#server.post(path, input, { Prefer: "respond-async" });
      const job = await this.#server.json({ ...request, signal: outlasting(signal) }, signal);
      const id = job?.job_id;
      if (typeof id !== "string") throw new StreamappError("unexpected_answer", `Expected a job from ${request.url}`, { data: job });
      if (signal.aborted) await this.#server.cancel(id);
      throwIfAborted(signal);
      return this.job(id);
    });
  }

  /** Return the handle of a job that exists already; sends nothing. */
  job<Result = any>(jobId: string): JobHandle<Result> {
    return new JobHandle(this.#server, jobId);
  }

  /** Start a job, tell how it goes, and return its result; a call that ends early cancels the job. */
  async subscribe<Result = any>(
    path: string,
    { input, onQueueUpdate = () => {}, logs = false, ...limits }: SubscribeOptions = {},
  ): Promise<Result> {
    return new Deadline(limits).hold(async (signal) => {
      const job = await this.submit<Result>(path, { input, signal });
      try {
        return await follow(this.#server, job, onQueueUpdate, logs, signal);
      } catch (error) {
        await this.#server.cancel(job.id); // without effect on a job that is over
        throw error;
      }
    });
  }

  /**
   * Open a session at once, and return it: inputs may be sent while it connects.
   *
   * It begins where the server marks a method `@streamapp.realtime(path)`; leaving it cancels its job.
   */
  connect<Input = any, Output = any>(path: string, { newest = false, webrtc = false, ...limits }: ConnectOptions = {}): Session<Input, Output> {
    const url = this.#server.urlOf(path);
    if (webrtc) return this.#server.call(url, newest, limits);
    const Socket: SocketMaker | undefined = this.#Socket ?? globalThis.WebSocket;
    if (!Socket) {
      throw new TypeError("There is no WebSocket here; use Node 22, or write new Client(url, { WebSocket })");
    }
    const query = this.#key === undefined ? "" : `${url.includes("?") ? "&" : "?"}_token=${encodeURIComponent(this.#key)}`;
    const open = () => new Socket(url.replace(/^http/i, "ws") + query, PROTOCOL);
    return this.#server.connect({ url, open }, newest, limits);
  }

  /**
   * Open the browser's own EventSource on a streaming endpoint; it closes itself when the job is over.
   *
   * Events have names, as in `stream`, and an event "done" follows the last one.
   */
  eventSource(path: string, input: unknown = {}): EventSource {
    const query = new URLSearchParams({ _input: stringifyJson(input), _events: "named" });
    if (this.#key !== undefined) query.set("_token", this.#key);
    const url = `${this.#server.urlOf(path)}?${query}`;
    const source = new EventSource(url);
    for (const name of ["done", "error", "cancelled"]) {
      source.addEventListener(name, (event) => "data" in event && source.close()); // a lost connection has no data
    }
    return source;
  }
}
