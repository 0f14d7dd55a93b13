/** Hand out the events of one job: to a loop, to listeners, to whoever waits for the result. */

import type { Source, StreamEvent } from "./conversation.js";
import { StreamappError } from "./errors.js";

type Listener = (value: any, event?: StreamEvent) => void;

/**
 * The events of one job; leaving early cancels it.
 *
 * They are read in one of two ways: by a loop, which takes its own pace, or without one, as fast as they come, for the
 * listeners of `on` and the promise of `done`. A loop serves listeners and promise too.
 */
export class Stream<Result = any, Output = any> implements AsyncIterable<StreamEvent> {
  #source: Source;
  #events: AsyncGenerator<StreamEvent, void>;
  #leave: (reason?: unknown) => Promise<void>;
  #listeners = new Map<string, Listener[]>();
  #reader: "loop" | "flow" | undefined;
  #left: StreamappError | undefined;
  #isTold = false;
  #done: Promise<Result>;
  #resolve!: (result: Result) => void;
  #reject!: (error: unknown) => void;

  /** @internal */
  constructor(source: Source, leave: (reason?: unknown) => Promise<void>) {
    this.#source = source;
    this.#events = source.events();
    source.onConnection = (lost) => this.#call(lost ? "reconnecting" : source.reconnects ? "reconnected" : "connected", lost);
    this.#leave = leave;
    this.#done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#done.catch(() => {}); // who does not ask for the result has the error from the loop, or from on("error")
  }

  /** The job; undefined from a server that has no jobs. */
  get jobId(): string | undefined {
    return this.#source.jobId;
  }

  /** How often the stream was cut and resumed. */
  get reconnects(): number {
    return this.#source.reconnects;
  }

  /**
   * Call a function with the data of each event of that name, and the event itself.
   *
   * Six names mean more: "data" is every event, "done" the result, "error" what ended the stream early, "reconnecting"
   * that the connection was lost, and by what, "reconnected" that it is back, "connected" that a session is there.
   */
  on(name: "error" | "reconnecting", listener: (error: StreamappError) => void): this;
  on(name: "reconnected" | "connected", listener: () => void): this;
  on(name: "done", listener: (result: Result) => void): this;
  on(name: "output", listener: (output: Output, event: StreamEvent<Output>) => void): this;
  on(
    name: "preview" | "progress" | "log" | "data" | (string & {}),
    listener: (data: any, event: StreamEvent) => void,
  ): this;
  on(name: string, listener: (...values: any[]) => void): this {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
    queueMicrotask(() => this.#flow());
    return this;
  }

  /**
   * Return the result: the data of the last event that is no preview, progress, log or lagged.
   *
   * Rejects with what ended the stream early; after `cancel`, or a loop that was left, with the code "cancelled".
   */
  done(): Promise<Result> {
    queueMicrotask(() => this.#flow()); // a loop that begins in this very turn comes first
    return this.#done;
  }

  /** Cancel the job unless it is over, and hang up; the loop ends. Resolves once the server knows. */
  async cancel(): Promise<void> {
    this.#left ??= new StreamappError("cancelled", "The stream was left", { jobId: this.jobId });
    this.#reject(this.#left);
    await this.#leave(this.#left);
  }

  /** Begin to read; the end of the loop, by `break`, `return` or an error, cancels the job unless it is over. */
  [Symbol.asyncIterator](): AsyncIterator<StreamEvent, undefined> {
    if (this.#reader === "flow") {
      throw new TypeError("on(...) or done() reads it already; begin the loop before you await");
    }
    this.#reader = "loop";
    const leave = async () => {
      await this.cancel();
      return { done: true as const, value: undefined };
    };
    return { next: () => this.#next(), return: leave };
  }

  async #flow(): Promise<void> {
    if (this.#reader) return;
    this.#reader = "flow";
    try {
      while (!(await this.#next()).done);
    } catch {
      // done() and on("error") tell it
    }
  }

  async #next(): Promise<IteratorResult<StreamEvent, undefined>> {
    try {
      const step = await this.#events.next();
      if (step.done) await this.#end();
      else this.#tell(step.value);
      return step as IteratorResult<StreamEvent, undefined>;
    } catch (error) {
      await this.#leave(error);
      if (error === this.#left) return { done: true, value: undefined };
      this.#reject(error);
      this.#tellEnd("error", error);
      throw error;
    }
  }

  #tell(event: StreamEvent): void {
    this.#call("data", event.data, event);
    this.#call(event.name, event.data, event);
  }

  async #end(): Promise<void> {
    await this.#leave();
    if (this.#left) return;
    this.#resolve(this.#source.result);
    this.#tellEnd("done", this.#source.result);
  }

  /** Tell how it ended, once: a loop may ask again. */
  #tellEnd(name: "done" | "error", value: unknown): void {
    if (!this.#isTold) this.#call(name, value);
    this.#isTold = true;
  }

  #call(name: string, value: unknown, event?: StreamEvent): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(value, event);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // as an EventTarget does: it is the listener's, not the stream's
      }
    }
  }
}
