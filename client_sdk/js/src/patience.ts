/** Decide how long to wait before the next try, and wait. */

import { after, reasonOf, throwIfAborted } from "./deadline.js";

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5000;
// A server that was never reached is more often a wrong address than one about to come up.
const CONNECT_PATIENCE_MS = 2000;
// What Node says of a connection that a server has accepted, and then cut.
const CUT: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"]);

/** Whether the server has ever answered: a browser does not say why a request failed, so all calls share this. */
export interface Reach {
  isProven: boolean;
  /** Whether it is of another origin than the page: then it may be that it answers, and the page may not read it. */
  isForeign?: boolean;
}

/**
 * Decide how long to wait before the next try, and when to give up.
 *
 * The waits grow twofold from 0.1 s, or from the server's `retry:`, up to 5 s, and each is drawn from 0 up to that
 * ("full jitter"): clients that lost the same server come back spread out.
 * Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export class Patience {
  #ms: number;
  #reach: Reach;
  #now: () => number;
  #failingSince: number | undefined;
  #tries = 0;
  #longestMs = LONGEST_WAIT_MS;
  #answeredAt!: number;

  /**
   * @param ms how long to go on trying without any progress.
   * @param now milliseconds that rise.
   */
  constructor(ms: number, reach: Reach, now = () => performance.now()) {
    this.#ms = ms;
    this.#reach = reach;
    this.#now = now;
  }

  /** Let the waits grow up to so long only: less than ever. */
  shorten(longestMs: number): void {
    this.#longestMs = Math.min(longestMs, LONGEST_WAIT_MS);
  }

  /** Take note of progress. */
  renew(): void {
    this.#failingSince = undefined;
    this.#tries = 0;
  }

  /** Take note that the server answers. */
  answered(): void {
    this.#reach.isProven = true;
    this.#answeredAt = this.#now();
  }

  /** Take note of bytes: a connection that has outlived the longest wait is progress, though it brings no event. */
  heard(): void {
    if (this.#now() - this.#answeredAt > LONGEST_WAIT_MS) this.renew();
  }

  /** Return how long to wait after a failure, in milliseconds; undefined when the patience is spent. */
  waitMs(error: unknown, retryMs = FIRST_WAIT_MS): number | undefined {
    const now = this.#now();
    this.#failingSince ??= now;
    // Of 0 the waits would not grow; of a day there would be none.
    const first = Math.max(1, Math.min(retryMs, this.#ms / 2));
    const most = Math.min(Math.max(this.#longestMs, first), first * 2 ** this.#tries++);
    const wait = Math.random() * most + retryAfterMs(error);
    if (!isUnreachable(error)) this.#reach.isProven = true;
    if (this.#reach.isForeign && !this.#reach.isProven && this.#tries > 1) return undefined;
    const limit = this.#reach.isProven ? this.#ms : Math.min(this.#ms, CONNECT_PATIENCE_MS);
    return now + wait - this.#failingSince < limit ? wait : undefined;
  }

  /**
   * Wait before the next try; return false when the patience is spent.
   *
   * The network coming back, or the page to the front, ends the wait. Time without a network does not count, in which it
   * tries all the same from time to time: a server on this machine needs none.
   */
  async wait(error: unknown, signal: AbortSignal, retryMs?: number): Promise<boolean> {
    throwIfAborted(signal);
    if (globalThis.navigator?.onLine === false) {
      await sleep(this.#longestMs, signal, true);
      this.renew();
      return true;
    }
    const ms = this.waitMs(error, retryMs);
    if (ms !== undefined) await sleep(ms, signal, !retryAfterMs(error));
    return ms !== undefined;
  }
}

function retryAfterMs(error: any): number {
  return (error?.retryAfter ?? 0) * 1000;
}

function isUnreachable(error: any): boolean {
  return error?.code === "connection_failed" && !CUT.has(error.cause?.cause?.code ?? error.cause?.code);
}

/**
 * Wait for a time; throw the signal's reason when it is aborted.
 *
 * @param wakes whether the network's return, or the page's, ends the wait: a hidden page's timers are slow.
 */
export function sleep(ms: number, signal: AbortSignal, wakes = false): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const wake = () => {
      clearTimeout(timer);
      over.abort();
      signal.aborted ? reject(reasonOf(signal)) : resolve();
    };
    const timer = after(ms, wake);
    signal.addEventListener("abort", wake, { signal: over.signal });
    if (!wakes) return;
    const wakeIfSeen = () => document.visibilityState === "visible" && wake();
    globalThis.addEventListener?.("online", wake, { signal: over.signal });
    globalThis.document?.addEventListener("visibilitychange", wakeIfSeen, { signal: over.signal });
  });
}
