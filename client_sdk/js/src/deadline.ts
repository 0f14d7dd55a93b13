/** Say when a call has to end: its caller's signal, its own time limit, or being left. */

import { StreamappError } from "./errors.js";

/** A minute over the server's own deadline, so that the server is first and says why. */
export const LONGEST_JOB_MS = 660_000;

// How long a call that was left may go on, to tell the server.
const LEAVING_MS = 2000;

/** What ends a call early. */
export interface Limits {
  /** Ends the call when it is aborted, and with it the job that the call started. */
  signal?: AbortSignal | undefined;
  /** How long the whole call may take; then it throws the code "deadline_exceeded". */
  timeoutMs?: number | undefined;
}

/** Set a timer; engines take a time beyond their range, such as Infinity, for none at all. */
export function after(ms: number, act: () => void): ReturnType<typeof setTimeout> {
  return setTimeout(act, Math.min(ms, 0x7fffffff));
}

/** Abort, and say why: React Native's signals keep no reason. */
export function abort(controller: AbortController, reason?: unknown): void {
  if (!("reason" in controller.signal)) Object.assign(controller.signal, { reason });
  controller.abort(reason);
}

/** Return what a signal was aborted with. */
export function reasonOf(signal: AbortSignal): unknown {
  return signal.reason ?? Object.assign(new Error("The call was aborted"), { name: "AbortError" });
}

/** Throw what a signal was aborted with, if it was; React Native's have no such method. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw reasonOf(signal);
}

/** Return a signal that is aborted with the first of two; React Native, and browsers before 2024, have no `any`. */
export function either(one: AbortSignal, other: AbortSignal): AbortSignal {
  if (AbortSignal.any) return AbortSignal.any([one, other]);
  const controller = new AbortController();
  for (const signal of [one, other]) {
    const follow = () => abort(controller, reasonOf(signal));
    signal.aborted ? follow() : signal.addEventListener("abort", follow, { signal: controller.signal });
  }
  return controller.signal;
}

/** Return a signal that is aborted when a call that was left has told the server, or could have. */
export function leaving(): AbortSignal {
  // Not a timer of ours, which would keep Node's process alive.
  if (AbortSignal.timeout) return AbortSignal.timeout(LEAVING_MS);
  const controller = new AbortController();
  after(LEAVING_MS, () => controller.abort());
  return controller.signal;
}

/** Return a signal that follows another one later: what was sent before may still be answered. */
export function outlasting(signal: AbortSignal): AbortSignal {
  throwIfAborted(signal);
  const controller = new AbortController();
  signal.addEventListener("abort", () => leaving().addEventListener("abort", () => controller.abort()));
  return controller.signal;
}

/** Hold the limits of one call, and whether it has ended. */
export class Deadline {
  /** Aborted when the call has to end, with the reason that the call throws. */
  readonly signal: AbortSignal;
  #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor({ signal, timeoutMs }: Limits) {
    this.signal = signal ? either(signal, this.#controller.signal) : this.#controller.signal;
    if (timeoutMs === undefined) return;
    const late = new StreamappError("deadline_exceeded", `The call did not end within timeoutMs: ${timeoutMs}`);
    this.#timer = after(timeoutMs, () => this.end(late));
  }

  /** End the call, unless it has ended; a timer that is left would keep the process alive. */
  end(reason?: unknown): void {
    clearTimeout(this.#timer);
    abort(this.#controller, reason);
  }

  /** Perform a call, and hang up after it. */
  async hold<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await call(this.signal);
    } finally {
      this.end();
    }
  }
}
