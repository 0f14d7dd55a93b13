/** The line below what is shown: how it goes, and what can be done with it. */

import { createContext, type ReactNode, useContext, useRef } from "react";

import { copied, NOT_COPIED } from "../parts/copy";
import { useBriefly, useNow } from "../parts/now";
import { seconds } from "../runs/quantities";
import type { Readiness } from "../runs/ready";
import type { Run } from "../runs/run";
import { type Fact, useFacts } from "./facts";
import { Foretold, type Standing } from "./status";

const NOTED_MS = 2500;
const MOST_LETTERS = 60; // that fit into the line

/** Say something for a moment: what a button has done shows nowhere else. */
export const Say = createContext<(words: string) => void>(() => {});

interface FootProps {
  run: Run | undefined;
  standing: Standing;
  readiness: Readiness;
  actions: ReactNode;
}

export function Foot({ run, standing, readiness, actions }: FootProps) {
  const [said, say] = useBriefly<string>(NOTED_MS);
  return (
    <Say.Provider value={say}>
      <div className="foot">
        <StatusLine {...{ run, standing, readiness }} />
        {actions}
        <p className="said" aria-live="polite">{said}</p>
      </div>
    </Say.Provider>
  );
}

/** Words and facts; while steps or seconds pass nobody is to hear each of them. */
function StatusLine({ run, standing: { tone, words, facts }, readiness }: Omit<FootProps, "actions">) {
  const found = useFacts(run);
  const left = useLeft(run);
  const isLoading = readiness.state === "loading" && (!run || run.status === "queued");
  const loading = useLoading(readiness, isLoading);
  const isCounting = isLoading || run?.status === "running";
  const all: Fact[] = [...[...facts, left, loading].filter(Boolean).map((text) => ({ text })), ...found];
  return (
    <p role="status" aria-live={isCounting ? "off" : "polite"} className={`status ${tone}`} data-state={run ? run.status : readiness.state}>
      <span className="words" title={words.length > MOST_LETTERS ? words : undefined}>{words}</span>
      {all.map((fact) => <FactView key={fact.text} {...fact} />)}
    </p>
  );
}

function FactView({ text, copy }: Fact) {
  const say = useContext(Say);
  if (copy === undefined) return <span className="fact">{text}</span>;
  const act = async () => say((await copied(copy)) ? `Copied ${copy}` : NOT_COPIED);
  return <span className="fact"><button type="button" className="quiet" title={`${copy}: click to copy it`} onClick={act}>{text}</button></span>;
}

/** Return how long a run still takes, in words. */
function useLeft(run: Run | undefined): string {
  const foretold = useRef<{ of: Run; by: Foretold }>(undefined);
  const now = useNow(run?.status === "running", 500);
  if (!run) return "";
  if (foretold.current?.of !== run) foretold.current = { of: run, by: new Foretold() };
  return foretold.current.by.at(Math.max(now, run.marks.at(-1)?.at ?? 0), run);
}

/** Return for how long the server has been loading, in words. */
function useLoading({ since }: Readiness, isLoading: boolean): string {
  const now = useNow(isLoading, 1000);
  const passedS = isLoading && since !== undefined ? Math.floor((now - since) / 1000) : 0;
  return passedS > 0 ? `for ${seconds(1000 * passedS).replace(".0", "")}` : "";
}
