/** What time it is, and what holds for a moment only. */

import { useCallback, useEffect, useState } from "react";

/** The time, again and again while it runs. */
export function useNow(isRunning: boolean, everyMs = 200): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    if (!isRunning) return;
    const timer = setInterval(() => setNow(performance.now()), everyMs);
    return () => clearInterval(timer);
  }, [isRunning, everyMs]);
  return now;
}

/** A value that is undefined again after a while. */
export function useBriefly<Value>(forMs: number): [Value | undefined, (value: Value) => void] {
  const [held, hold] = useState<{ value: Value }>(); // anew each time, also with the same value
  useEffect(() => {
    if (!held) return;
    const timer = setTimeout(() => hold(undefined), forMs);
    return () => clearTimeout(timer);
  }, [held, forMs]);
  return [held?.value, useCallback((value: Value) => hold({ value }), [])];
}
