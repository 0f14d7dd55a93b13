/**
 * Carry one session over as many sockets as it takes: open, send, read, lose, resume.
 *
 * Nothing slows down a WebSocket whose messages are not read: they would pile up here. So a preview or progress that
 * nobody has read is replaced by the next, and where too much else is unread the socket is left for a while: the server
 * waits, as for any reader that was cut off.
 */

import { decodeJson, fetchAnswer } from "./connection.js";
import { drawn, type Manners, mayPass, Outcome, type Source, type StreamEvent } from "./conversation.js";
import { throwIfAborted } from "./deadline.js";
import { errorFromEvent, StreamappError } from "./errors.js";
import type { Outbox } from "./outbox.js";
import { type Patience, sleep } from "./patience.js";
import { closed, hangUp, listen, NEVER_OPENED } from "./socket.js";

/** What is talked to. */
export interface Partner {
  url: string;
  /** Open a socket, or what is like one. */
  open: (isResume: boolean) => any;
}

const UPGRADE_REQUIRED = 426;
const REPLACED: ReadonlySet<string> = new Set(["preview", "progress"]);
// As many as the server keeps for those that come back.
const MOST_UNREAD = 4096;
const MOST_UNREAD_CHARACTERS = 2 ** 24;
const AHEAD = new StreamappError("connection_failed", "The events come faster than they are read");

/** Hold one session: what was sent for it, what came, and how often it was lost. */
export class Dialogue implements Source {
  jobId: string | undefined;
  result: any;
  isOver = false;
  reconnects = 0;
  onConnection: (lost?: unknown) => void = () => {};

  #manners: Manners;
  #partner: Partner;
  #patience: Patience;
  #signal: AbortSignal;
  #outbox: Outbox;
  #outcome = new Outcome();
  /** Drawn here: by it the server knows an `open` whose answer was lost. Then the one that it tells. */
  #key = drawKey();
  /** How long the server keeps the session without a socket. */
  #keptMs = 0;
  #isConnected = false;
  #lastEventId: string | null = null;
  #unread: { event: StreamEvent; size: number }[] = [];
  #unreadCharacters = 0;
  #wake = () => {};
  #tellRead = () => {};
  #running: Promise<void>;
  #hasEnded = false;

  constructor(manners: Manners, partner: Partner, patience: Patience, signal: AbortSignal, outbox: Outbox) {
    this.#manners = manners;
    this.#partner = partner;
    this.#patience = patience;
    this.#signal = signal;
    this.#outbox = outbox;
    this.#running = this.#run();
    this.#running.catch(() => {}); // `events` tells it
  }

  send(input: unknown): Promise<number | undefined> {
    return this.#outbox.add(input);
  }

  finish(): void {
    this.#outbox.finish();
  }

  async *events(): AsyncGenerator<StreamEvent, void> {
    for (;;) {
      throwIfAborted(this.#signal);
      const next = this.#unread.shift();
      if (next) {
        this.#unreadCharacters -= next.size;
        yield next.event;
      } else if (this.#hasEnded) return this.#running;
      else {
        this.#tellRead();
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }

  async #run(): Promise<void> {
    let end: unknown = new StreamappError("session_ended", "The session is over, and takes no more inputs");
    try {
      while (!this.isOver) {
        throwIfAborted(this.#signal);
        await this.#exchange().catch((lost) => this.#recover(lost));
      }
      this.result = this.#outcome.data;
    } catch (error: any) {
      this.isOver = error?.code !== "payload_too_large"; // by which the server ends a socket, and no session
      throw (end = error);
    } finally {
      this.#outbox.end(end);
      this.#hasEnded = true;
      this.#wake();
    }
  }

  /** Talk over one socket until the session is over; reject with what has lost the socket. */
  async #exchange(): Promise<void> {
    const socket = this.#partner.open(this.jobId !== undefined);
    const open = () => {
      socket.send(JSON.stringify(this.#greeting));
      if (this.jobId === undefined) this.#outbox.open(socket);
    };
    const take = (text: string) => {
      this.#take(text, socket);
      return this.isOver;
    };
    try {
      await listen(socket, this.#manners.silenceMs, this.#signal, { open, take });
    } catch (lost) {
      throw lost === NEVER_OPENED ? await this.#refusal() : lost;
    } finally {
      this.#outbox.close();
      // A job that has an id is cancelled by that: a server that reads no inputs at the moment hears no word either.
      hangUp(socket, this.#signal.aborted && this.jobId === undefined ? '{"type":"cancel"}' : "");
    }
  }

  get #greeting(): object {
    if (this.jobId === undefined) return { type: "open", resume_s: this.#manners.resumeWindowMs / 1000, key: this.#key };
    return { type: "resume", job_id: this.jobId, key: this.#key, last_event_id: this.#lastEventId };
  }

  #take(text: string, socket: any): void {
    this.#patience.heard();
    const frame = decodeJson(text, "a message", this.#manners.parse);
    if (frame.type === "event") this.#receive(frame, text.length);
    else if (frame.type === "received") this.#outbox.acknowledge(frame.n);
    else if (frame.type === "session") this.#connect(frame, socket);
    else if (frame.type === "refused") throw errorFromEvent("refused", frame, this.jobId);
    else if (frame.type === "close") throw closed(frame.code, frame.reason); // where there is no WebSocket to say it
  }

  #connect({ job_id, key, received, resume_s }: any, socket: any): void {
    if (this.jobId === undefined) this.#outbox.acknowledge(received);
    else {
      this.reconnects++;
      this.#outbox.open(socket, received);
    }
    this.jobId = job_id;
    this.#key = key;
    this.#keptMs = resume_s * 1000;
    // So that several tries fall into it, also where each socket is lost before an event has come.
    this.#patience.shorten(this.#keptMs / 4);
    this.#isConnected = true;
    this.#patience.answered();
    this.onConnection();
    this.#checkRead();
  }

  #receive({ event: name, id, data }: any, size: number): void {
    this.isOver = name === "done" || name === "error" || name === "cancelled";
    if (name === "done") return;
    if (this.isOver) throw errorFromEvent(name, data, this.jobId);
    this.#outcome.take(name, data);
    this.#patience.renew();
    this.#lastEventId = id || this.#lastEventId;
    const isReplaced = ({ event }: { event: StreamEvent }) => event.name === name && event.data?.key === data?.key;
    const at = REPLACED.has(name) ? this.#unread.findIndex(isReplaced) : -1;
    if (at >= 0) this.#unreadCharacters -= this.#unread.splice(at, 1)[0]!.size;
    this.#unread.push({ event: { name, data, id }, size });
    this.#unreadCharacters += size;
    this.#wake();
    this.#checkRead();
  }

  /** Leave a socket whose events come too fast. */
  #checkRead(): void {
    if (this.#unread.length > MOST_UNREAD || this.#unreadCharacters > MOST_UNREAD_CHARACTERS) throw AHEAD;
  }

  /** Return why no socket was opened: what the server answers to a request that starts nothing. */
  async #refusal(): Promise<unknown> {
    const { url } = this.#partner;
    const { headers, parse } = this.#manners;
    // As with an input, so that it is not led from http to https, where no socket is.
    const answer = await fetchAnswer({ method: "OPTIONS", url, headers, body: "" }, this.#signal, parse).catch((error) => error);
    const { status } = answer;
    if (status === 404) return new StreamappError("not_found", `There is no session at ${url}`, { status });
    if (status === 405) return new StreamappError("unexpected_answer", `${url} is no session; write client.stream(...) or client.run(...)`, { status });
    if (status !== UPGRADE_REQUIRED && answer instanceof Error) return answer;
    return new StreamappError("connection_failed", `The server answers, and opens no session at ${url}: is it another WebSocket, or does a proxy pass none on?`);
  }

  /** Wait until it may go on; throw where it may not. */
  async #recover(error: any): Promise<void> {
    throwIfAborted(this.#signal);
    if (this.isOver) throw error;
    if (this.#isConnected) this.onConnection(error);
    this.#isConnected = false;
    if (error === AHEAD) return this.#untilRead();
    const isResume = this.jobId !== undefined;
    const goesOn = mayPass(error, isResume) && (await this.#patience.wait(error, this.#signal));
    if (!goesOn) throw isResume && error.code !== "payload_too_large" ? this.#interrupted(error) : error;
  }

  /** Wait until what is there was read, as long as the server certainly keeps the session. */
  async #untilRead(): Promise<void> {
    if (!this.#keptMs) throw this.#interrupted(AHEAD);
    const read = new Promise<void>((resolve) => (this.#tellRead = resolve));
    await Promise.race([read, sleep(this.#keptMs / 2, this.#signal)]);
  }

  #interrupted(cause: any): StreamappError {
    const message = `The session of job ${this.jobId} broke off: ${cause.message}`;
    return new StreamappError("stream_interrupted", message, { jobId: this.jobId, cause });
  }
}

/** Return a key of 32 hexadecimal digits; undefined where it could be guessed: then the server draws one. */
function drawKey(): string | undefined {
  const numbers = drawn();
  return numbers && Array.from(numbers, (number) => number.toString(16).padStart(8, "0")).join("");
}
