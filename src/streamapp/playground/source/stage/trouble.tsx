/** What went wrong, and what to do: quietly, on the stage. */

import type { ReactNode } from "react";
import type { StreamappError } from "streamapp-client";

import { Icon, type Sign } from "../parts/icon";
import { Traceback, tracebackOf } from "../parts/traceback";
import type { Readiness } from "../runs/ready";
import { isKnown, remedyFor, sentenceOf } from "../runs/remedies";

interface TroubleProps {
  sign?: Sign;
  /** What has happened. */
  words: string;
  /** What to do. */
  remedy?: ReactNode;
  traceback?: unknown;
  children?: ReactNode;
}

/** A panel; below what has come so far, or in its place. */
export function Trouble({ sign = "trouble", words, remedy, traceback, children }: TroubleProps) {
  return (
    <div role="alert" className="trouble">
      <Icon sign={sign} />
      <div>
        <p className="what">{words}</p>
        {remedy && <p>{remedy}</p>}
        {children}
        <Traceback text={traceback} />
      </div>
    </div>
  );
}

/** A run that has failed. */
export function Failed({ error }: { error: StreamappError }) {
  const isTold = !error.status || isKnown(error) || error.message.startsWith("HTTP");
  return (
    <Trouble words={sentenceOf(error)} remedy={remedyFor(error)} traceback={tracebackOf(error)}>
      {!isTold && <p className="note">HTTP {error.status}</p>}
    </Trouble>
  );
}

const SERVER: Partial<Record<Readiness["state"], { sign?: Sign; words: string; remedy: string }>> = {
  gone: { sign: "lost", words: "The server does not answer", remedy: "It may be restarting. This page goes on by itself when it is back." },
  draining: { sign: "lost", words: "The server is shutting down", remedy: "It finishes what is running, and takes nothing new. This page goes on by itself when it is back." },
  broken: { words: "The app is out of service", remedy: "It hangs in a run. Whoever runs the server has to restart it." },
  setup_failed: { words: "The app could not start", remedy: "The server's log says why." },
};

/** Say whether the server takes no runs. */
export function isTroubled({ state }: Readiness): boolean {
  return state in SERVER;
}

/** A server that takes no runs; nothing while it does. */
export function ServerTrouble({ readiness: { state, traceback } }: { readiness: Readiness }) {
  const told = SERVER[state];
  if (!told) return null;
  return <Trouble {...told} remedy={traceback ? "The traceback says where." : told.remedy} traceback={traceback} />;
}
