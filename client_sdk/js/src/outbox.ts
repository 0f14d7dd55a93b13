/** Hold the inputs of a session until the server has them; knows nothing of what comes back. */

import { after } from "./deadline.js";
import { StreamappError } from "./errors.js";
import { encodeInput } from "./inputs.js";

/** What inputs are written to: a WebSocket. */
export interface Sink {
  readonly bufferedAmount: number;
  send(text: string): void;
}

interface Waiting {
  data: string;
  resolve: (n?: number) => void;
  reject: (error: unknown) => void;
}

// As much as the server keeps unread.
const MOST_UNACKNOWLEDGED = 64;
const MOST_UNACKNOWLEDGED_CHARACTERS = 2 ** 24;
// What may lie in a socket that the network has not taken.
const MOST_UNSENT_BYTES = 2 ** 20;
// No event says that the network has taken something.
const LOOK_MS = 10;
const FINISH = '{"type":"finish"}';

/** Number inputs and write them in their order; again, where the socket was lost that they were written to. */
export class Outbox {
  #isNewest: boolean;
  #sink: Sink | undefined;
  #encoding: Promise<unknown> = Promise.resolve();
  #waiting: Waiting[] = [];
  #unacknowledged: string[] = [];
  #acknowledged = 0;
  #finish: "open" | "called" | "due" | "written" = "open";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #end: unknown;

  /** `isNewest`: an input that waits to be written is replaced by the next one. */
  constructor(isNewest: boolean) {
    this.#isNewest = isNewest;
  }

  /** Take an input as it is now; resolves with its number when it was written, and without one when it was replaced. */
  async add(input: unknown): Promise<number | undefined> {
    if (this.#finish !== "open") throw new StreamappError("session_ended", "The session takes no input after finish()");
    const data = await this.#encode(input);
    if (this.#end) throw this.#end;
    if (this.#isNewest) this.#waiting.pop()?.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ data, resolve, reject });
      this.#write();
    });
  }

  /** Say, behind all inputs so far, that there are no more. */
  finish(): void {
    if (this.#finish !== "open") return;
    this.#finish = "called";
    this.#encoding.then(() => {
      this.#finish = "due";
      this.#write();
    });
  }

  /** Write to a socket from now on; first what its server, which has the inputs up to a number, lacks. */
  open(sink: Sink, received = 0): void {
    this.acknowledge(received);
    this.#sink = sink;
    for (const text of this.#unacknowledged) sink.send(text);
    if (this.#finish === "written") this.#finish = "due";
    this.#write();
  }

  /** Forget the inputs up to a number: the server has them. */
  acknowledge(received: number): void {
    this.#acknowledged += this.#unacknowledged.splice(0, received - this.#acknowledged).length;
    this.#write();
  }

  /** Write nothing until the next socket is there. */
  close(): void {
    this.#sink = undefined;
  }

  /** Refuse what waits, and what comes. */
  end(error: unknown): void {
    this.close();
    this.#end = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  /** Turn an input into JSON; one that takes longer holds up those behind it. */
  #encode(input: unknown): Promise<string> {
    const own = input === null ? Promise.resolve("null") : encodeInput(input); // which is no input to an endpoint
    const data = this.#encoding.then(() => own);
    this.#encoding = data.catch(() => {});
    own.catch(() => {}); // `data` tells it, perhaps later
    return data;
  }

  get #hasRoom(): boolean {
    const characters = this.#unacknowledged.reduce((sum, text) => sum + text.length, 0);
    return this.#unacknowledged.length < MOST_UNACKNOWLEDGED && characters < MOST_UNACKNOWLEDGED_CHARACTERS;
  }

  #write(): void {
    clearTimeout(this.#timer);
    const sink = this.#sink;
    if (!sink) return;
    // React Native does not say how much it has not sent.
    const isFull = () => sink.bufferedAmount > (this.#isNewest ? 0 : MOST_UNSENT_BYTES);
    while (this.#waiting.length && this.#hasRoom && !isFull()) {
      const { data, resolve } = this.#waiting.shift()!;
      const n = this.#acknowledged + this.#unacknowledged.length + 1;
      const text = `{"type":"input","n":${n},"data":${data}}`;
      this.#unacknowledged.push(text);
      sink.send(text);
      resolve(n);
    }
    if (this.#waiting.length) {
      if (isFull()) this.#timer = after(LOOK_MS, () => this.#write());
    } else if (this.#finish === "due") {
      this.#finish = "written";
      sink.send(FINISH);
    }
  }
}
