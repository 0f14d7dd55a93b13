/** Speak to one server: what every request carries, jobs by their id, streams that are left. */

import { fetchAnswer, isForeign, JSON_TYPE, originOf, type Request, send } from "./connection.js";
import { Conversation, idempotencyKey, type Manners, readJson, type Source, type Subject } from "./conversation.js";
import { Deadline, leaving, type Limits } from "./deadline.js";
import { Dialogue, type Partner } from "./dialogue.js";
import { errorFromEvent, type StreamappError } from "./errors.js";
import { bodyOf, headersOf } from "./inputs.js";
import { Outbox } from "./outbox.js";
import { Patience, type Reach } from "./patience.js";
import { Peer } from "./peer.js";
import { Session } from "./session.js";
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
  #manners: Manners;
  #patienceMs: number;
  #reach: Reach;

  constructor(manners: Manners, patienceMs: number) {
    this.#manners = manners;
    this.#patienceMs = patienceMs;
    this.#reach = { isProven: false, isForeign: isForeign(manners.url) };
  }

  /** Return the URL of a path, or of a URL of this server; of no other: key and input would go there. */
  urlOf(path: string): string {
    const { url } = this.#manners;
    const origin = originOf(url);
    if (/^([/?]|$)/.test(path)) return url + path;
    if (origin && originOf(path) === origin) return path;
    throw new TypeError(`Expected a path such as "/stream", or a URL of ${origin ?? url}, got ${JSON.stringify(path)}`);
  }

  /** Send a request until it is answered, and return the JSON of its answer. */
  async json(request: Request, signal: AbortSignal, silenceMs = this.#manners.silenceMs): Promise<any> {
    return readJson(request, this.#patience(), signal, { ...this.#manners, silenceMs });
  }

  /** Make a request that starts a job; sent again, it does not start another. */
  async post(path: string, input: unknown, more: Record<string, string> = {}): Promise<Request> {
    const body = await bodyOf(input);
    const headers = { ...headersOf(body), "Idempotency-Key": idempotencyKey(), ...more };
    return { ...this.#request("POST", this.urlOf(path), headers), body };
  }

  /** Call an endpoint that answers in a way of its own. */
  async fetch(path: string, input: unknown, signal: AbortSignal | undefined): Promise<Response> {
    return fetchAnswer(await this.post(path, input, { Accept: "*/*" }), signal, this.#manners.parse);
  }

  /** Send a request about a job, and return the JSON of its answer. */
  async ask(method: "GET" | "POST", path: string, signal: AbortSignal): Promise<any> {
    return this.json(this.#request(method, this.urlOf(`/jobs/${path}`)), signal);
  }

  /** Send a request about a job, and return the state that it answers. */
  async status(method: "GET" | "POST", path: string, signal: AbortSignal): Promise<JobStatus> {
    return statusOf(await this.ask(method, path, signal));
  }

  /** Read a stream; leaving it ends the job if this stream has started it. */
  async stream(subject: Subject, limits: Limits): Promise<Stream> {
    const deadline = new Deadline(limits);
    const conversation = new Conversation(this.#manners, subject, this.#patience(), deadline.signal);
    const leave = this.#leaving(conversation, deadline, subject.jobId === undefined);
    try {
      await conversation.start();
    } catch (error) {
      await leave();
      throw error;
    }
    return new Stream(conversation, leave);
  }

  /** Open a session by WebRTC; leaving it ends its job. */
  call(url: string, isNewest: boolean, limits: Limits): Session {
    const video = globalThis.MediaStream ? new MediaStream() : null;
    const show = (track: MediaStreamTrack) => {
      for (const old of video!.getTracks()) video!.removeTrack(old);
      video!.addTrack(track);
    };
    const open = (isResume: boolean) => new Peer(url, this.#manners, show, isResume);
    return this.connect({ url, open }, isNewest, limits, video);
  }

  /** Open a session; leaving it ends its job. */
  connect(partner: Partner, isNewest: boolean, limits: Limits, video: MediaStream | null = null): Session {
    const deadline = new Deadline(limits);
    const outbox = new Outbox(isNewest);
    const dialogue = new Dialogue(this.#manners, partner, this.#patience(), deadline.signal, outbox);
    return new Session(dialogue, this.#leaving(dialogue, deadline, true), video);
  }

  /** Return a function that hangs up, and ends the job if it is the source's own, and not over. */
  #leaving(source: Source, deadline: Deadline, isOwn: boolean): (reason?: unknown) => Promise<void> {
    let left: Promise<void> | undefined;
    const leave = (reason?: unknown) => {
      const cancels = isOwn && !source.isOver && source.jobId;
      left ??= cancels ? this.cancel(cancels) : Promise.resolve();
      deadline.end(reason);
      return left;
    };
    deadline.signal.addEventListener("abort", () => leave());
    return leave;
  }

  /** Cancel a job, if the server can be told so soon; else it learns from the closing connection. */
  async cancel(jobId: string): Promise<void> {
    const request = this.#request("POST", this.urlOf(`/jobs/${encodeURIComponent(jobId)}/cancel`));
    const response = await send({ ...request, keepalive: true }, leaving()).catch(() => undefined);
    await response?.body?.cancel();
  }

  #patience(): Patience {
    return new Patience(this.#patienceMs, this.#reach);
  }

  #request(method: "GET" | "POST", url: string, headers: Record<string, string> = {}): Request {
    return { method, url, headers: { ...this.#manners.headers, Accept: JSON_TYPE, ...headers } };
  }
}

/** Read a job's state as the server tells it. */
export function statusOf(body: any): JobStatus {
  const { error, detail, error_type, ...status } = body;
  const failure = error && { error: errorFromEvent(status.status, body, status.job_id) };
  return { ...status, ...failure, logs: [] };
}
