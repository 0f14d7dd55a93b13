/** How long tests wait: limits that end one which hangs, and decide nothing else (tests/waiting.py). */

export const WAIT_MS = 120_000;
/** For what is long by itself: a thousand cut connections. */
export const LONG_MS = 1_200_000;
