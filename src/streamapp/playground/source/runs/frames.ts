/** Which of the pictures of a run is shown. */

import { useState } from "react";

import { unique } from "./content";
import type { Frame, Run } from "./run";

export interface Frames {
  /** The previews in the order in which they came, and behind them the results. */
  all: Frame[];
  /** The place of the one that is shown; -1 where there is none. */
  at: number;
  choose: (at: number) => void;
}

/** Show the newest, and, once one is chosen, that one; the newest again when it is chosen. */
export function useFrames(run: Run | undefined): Frames {
  const [chosen, choose] = useState<{ of: Run | undefined; at: number | undefined }>();
  const frames = run?.frames ?? [];
  const results: Frame = { kind: "result", contents: unique([...(run?.results.values() ?? [])]) };
  const all = results.contents.length ? [...frames, results] : frames;
  const newest = run?.isPreviewed && !run.isOver ? frames.findLastIndex(({ kind }) => kind === "preview") : -1;
  const end = newest < 0 ? all.length - 1 : newest;
  const wanted = chosen?.of === run ? chosen?.at : undefined;
  return { all, at: Math.min(wanted ?? end, all.length - 1), choose: (at) => choose({ of: run, at: at === end ? undefined : at }) };
}
