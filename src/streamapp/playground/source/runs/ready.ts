/** Know whether the server takes jobs, and learn when that changes. */

import { useCallback, useEffect, useRef, useState } from "react";

/** What `/ready` says, or that nobody says anything. */
export interface Readiness {
  state: "asked" | "ready" | "loading" | "setup_failed" | "draining" | "broken" | "gone";
  /** What the region "Output" says of it. */
  words: string;
  note: string;
  /** Where `setup` raised; told by a server that debugs. */
  traceback?: string;
  /** When the apps began to load, in milliseconds of `performance.now()`. */
  since?: number;
}

const ASKED: Readiness = { state: "asked", words: "Asking the server", note: "" };
const READY: Readiness = { state: "ready", words: "Ready", note: "" };
const GONE: Readiness = {
  state: "gone", words: "No server", note: "The server does not answer. This page goes on when it is back.",
};
const BROKEN: Readiness = {
  state: "broken", words: "Out of service", note: "hangs in a run. The server has to be restarted.",
};
const DRAINING: Readiness = {
  state: "draining", words: "Shutting down", note: "The server takes no more runs. This page goes on when it is back.",
};
// By the states of a worker; one that is not named is ready.
const STATES: Record<string, Readiness> = {
  starting: { state: "loading", words: "Loading the model", note: "is loading. What you run now starts when it is ready." },
  setup_failed: { state: "setup_failed", words: "Setup failed", note: "could not start. The server's log says why." },
  stuck: BROKEN,
  broken: BROKEN,
  draining: DRAINING,
  stopped: DRAINING,
};
const ASK_MS = 5000;
const ASK_SOON_MS = 1000;

/** Ask a server again and again, while the page is seen; `onBack` is called when it is ready, and was not before. */
export function useReadiness(server: string, headers: Record<string, string>, onBack: () => void): Readiness {
  const [readiness, setReadiness] = useState(ASKED);
  const before = useRef(ASKED);
  const ask = useCallback(async () => {
    const now = await readinessOf(server, headers);
    if (now.state === "ready" && !["asked", "ready"].includes(before.current.state)) onBack();
    before.current = now;
    setReadiness(now);
  }, [server, headers, onBack]);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let isCurrent = true;
    const askOn = async () => {
      if (document.visibilityState === "visible") await ask();
      if (isCurrent) timer = setTimeout(askOn, before.current.state === "ready" ? ASK_MS : ASK_SOON_MS);
    };
    askOn();
    document.addEventListener("visibilitychange", ask); // a hidden page's timers are slow
    return () => {
      isCurrent = false;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, [ask]);
  return readiness;
}

async function readinessOf(server: string, headers: Record<string, string>): Promise<Readiness> {
  // While an app is imported, or cannot be, `--reload` lends its socket to nobody who would answer.
  const signal = AbortSignal.timeout(ASK_MS);
  const answer = await fetch(`${server}/_streamapp/ready`, { headers, signal }).catch(() => undefined);
  if (!answer || answer.status === 502 || answer.status === 504) return GONE; // by a proxy
  if (answer.status !== 503) return READY;
  const { reason = "", traceback, loading_s: loadingS } = await answer.json().catch(() => ({}));
  const [state, app] = reason.split(": ").reverse(); // the first app that is not ready; none where the server drains
  const told = STATES[state] ?? GONE;
  const since = typeof loadingS === "number" ? { since: performance.now() - 1000 * loadingS } : {};
  if (app === undefined) return told;
  return { ...told, ...since, note: `${app} ${traceback ? "could not start." : told.note}`, traceback };
}
