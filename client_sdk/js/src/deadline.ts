/** Say when a call has to end: its caller's signal, its own time limit, or being left. */

import { StreamappError } from "./errors.js";

/** A minute over the server's own deadline, so that the server is first and says why. */
export const LONGEST_JOB_MS = 660_000;

/** How long a call that was left may go on, to tell the server. */
export const LEAVING_MS = 2000;

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

/** Return a signal that follows another one later: what was sent before may still be answered. */
export function outlasting(signal: AbortSignal): AbortSignal {
  signal.throwIfAborted();
  const controller = new AbortController();
  const follow = () => controller.abort();
  // Not a timer of ours, which would keep the process alive.
  signal.addEventListener("abort", () => AbortSignal.timeout(LEAVING_MS).addEventListener("abort", follow));
  return controller.signal;
}

/** Hold the limits of one call, and whether it has ended. */
export class Deadline {
  /** Aborted when the call has to end, with the reason that the call throws. */
  readonly signal: AbortSignal;
  #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor({ signal, timeoutMs }: Limits) {
    this.signal = signal ? AbortSignal.any([signal, this.#controller.signal]) : this.#controller.signal;
    if (timeoutMs === undefined) return;
    const late = new StreamappError("deadline_exceeded", `The call did not end within timeoutMs: ${timeoutMs}`);
    this.#timer = after(timeoutMs, () => this.end(late));
  }

  /** End the call, unless it has ended; a timer that is left would keep the process alive. */
  end(reason?: unknown): void {
    clearTimeout(this.#timer);
    this.#controller.abort(reason);
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
