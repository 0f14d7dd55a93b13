/** Speak to one server: what every request carries, jobs by their id, streams that are left. */

import { fetchAnswer, JSON_TYPE, type Request } from "./connection.js";
import { Conversation, idempotencyKey, type Manners, readJson, type Subject } from "./conversation.js";
import { Deadline, LEAVING_MS, type Limits } from "./deadline.js";
import { errorFromEvent, type StreamappError } from "./errors.js";
import { encodeInput } from "./inputs.js";
import { Patience } from "./patience.js";
import { Stream } from "./stream.js";

/** A job's state at one moment; the times are seconds since 1970, by the server's clock. */
export interface JobStatus {
  job_id: string;
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  /** How many jobs run before it, while it is queued. */
  position: number;
  created_at: number;
  started_at: number | null;
  finished_at: number | null;
  /** Why it failed, or was cancelled. */
  error?: StreamappError;
  /** The lines that are new since the last update. */
  logs: { message: string; level: string; source: string }[];
}

/** Send what calls, handles and streams of one client send. */
export class Server {
  readonly url: string;
  #manners: Manners;
  #patienceMs: number;
  #reach = { isProven: false };

  constructor(manners: Manners, patienceMs: number) {
    this.url = manners.url;
    this.#manners = manners;
    this.#patienceMs = patienceMs;
  }

  /** Send a request until it is answered, and return the JSON of its answer. */
  async json(request: Request, signal: AbortSignal, silenceMs = this.#manners.silenceMs): Promise<any> {
    return readJson(request, this.#patience(), signal, { ...this.#manners, silenceMs });
  }

  /** Make a request that starts a job; sent again, it does not start another. */
  async post(path: string, input: unknown, more: Record<string, string> = {}): Promise<Request> {
    const headers = { "Content-Type": JSON_TYPE, "Idempotency-Key": idempotencyKey(), ...more };
    return { ...this.#request("POST", path, headers), body: await encodeInput(input) };
  }

  /** Call an endpoint that answers in a way of its own. */
  async fetch(path: string, input: unknown, signal: AbortSignal | undefined): Promise<Response> {
    return fetchAnswer(await this.post(path, input, { Accept: "*/*" }), signal, this.#manners.parse);
  }

  /** Send a request about a job, and return the JSON of its answer. */
  async ask(method: "GET" | "POST", path: string, signal: AbortSignal): Promise<any> {
    return this.json(this.#request(method, `/jobs/${path}`), signal);
  }

  /** Send a request about a job, and return the state that it answers. */
  async status(method: "GET" | "POST", path: string, signal: AbortSignal): Promise<JobStatus> {
    return statusOf(await this.ask(method, path, signal));
  }

  /** Read a stream; leaving it ends the job if this stream has started it. */
  async stream(subject: Subject, limits: Limits): Promise<Stream> {
    const deadline = new Deadline(limits);
    const conversation = new Conversation(this.#manners, subject, this.#patience(), deadline.signal);
    let left: Promise<void> | undefined;
    const leave = (reason?: unknown) => {
      const cancels = subject.jobId === undefined && !conversation.isOver && conversation.jobId;
      left ??= cancels ? this.cancel(cancels) : Promise.resolve();
      deadline.end(reason);
      return left;
    };
    deadline.signal.addEventListener("abort", () => leave());
    try {
      await conversation.start();
    } catch (error) {
      await leave();
      throw error;
    }
    return new Stream(conversation, leave);
  }

  /** Cancel a job, if the server can be told so soon; else it learns from the closing connection. */
  async cancel(jobId: string): Promise<void> {
    const request = this.#request("POST", `/jobs/${jobId}/cancel`);
    // `keepalive`: a page that closes still sends it.
    const options = { ...request, keepalive: true, signal: AbortSignal.timeout(LEAVING_MS) };
    const response = await fetch(request.url, options).catch(() => undefined);
    await response?.body?.cancel();
  }

  #patience(): Patience {
    return new Patience(this.#patienceMs, this.#reach);
  }

  #request(method: "GET" | "POST", path: string, headers: Record<string, string> = {}): Request {
    return { method, url: this.url + path, headers: { ...this.#manners.headers, Accept: JSON_TYPE, ...headers } };
  }
}

/** Read a job's state as the server tells it. */
export function statusOf(body: any): JobStatus {
  const { error, detail, error_type, ...status } = body;
  const failure = error && { error: errorFromEvent(status.status, body, status.job_id) };
  return { ...status, ...failure, logs: [] };
}
