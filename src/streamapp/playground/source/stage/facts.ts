/** Say what a result is, in a few words each: how large its picture is, how long its sound, how many its tokens, and its seed. */

import { useEffect, useState } from "react";

import type { Content } from "../runs/content";
import { seedOf } from "../runs/history";
import { measured, type Measures } from "../runs/measure";
import { clock, readable } from "../runs/quantities";
import type { Run } from "../runs/run";
import { mediaOf, type MediaContent } from "./files";

export interface Fact {
  text: string;
  /** The whole of what is shortened: a click copies it. */
  copy?: string;
}

const MOST_DIGITS = 8;
const SHOWN_DIGITS = 6;
const LEAST_FLOW_MS = 200; // in which a rate says something
const KINDS: Partial<Record<Content["kind"], string>> = { image: "images", audio: "sounds", video: "films", mesh: "models", file: "files" };

/** Return what there is to say of a run that is over; what it does not say itself is measured, and comes a moment later. */
export function useFacts(run: Run | undefined): Fact[] {
  const [found, setFound] = useState<{ of: Run; measures: Measures }>();
  const isDone = run?.status === "succeeded";
  useEffect(() => {
    const [first] = run && isDone ? mediaOf(run) : [];
    if (!run || !first) return;
    let isCurrent = true;
    measured(first.kind, first.media.url).then((measures) => isCurrent && setFound({ of: run, measures }));
    return () => void (isCurrent = false);
  }, [run, isDone]);
  return run && isDone ? factsOf(run, found?.of === run ? found.measures : {}) : [];
}

function factsOf(run: Run, measures: Measures): Fact[] {
  const seed = seedOf(run.result);
  const texts = [...mediaWords(run, measures), ...tokenWords(run)];
  return [...texts.map((text) => ({ text })), ...(seed === undefined ? [] : [seedFact(String(seed))])];
}

function seedFact(seed: string): Fact {
  return { text: `seed ${seed.length > MOST_DIGITS ? `${seed.slice(0, SHOWN_DIGITS)}…` : seed}`, copy: seed };
}

function mediaWords(run: Run, measures: Measures): string[] {
  const all = mediaOf(run);
  const [first] = all;
  const alike = all.filter(({ kind }) => kind === first?.kind);
  const count = alike.length > 1 ? [`${alike.length} ${KINDS[first!.kind]}`] : [];
  const [sound] = run.sounds.values();
  if (!first) return sound && sound.endS > 0 ? [length(sound.endS)] : [];
  const { width, height, durationS } = { ...sized(first), ...measures };
  const bytes = first.kind === "mesh" || first.kind === "file" ? alike.reduce((sum, { media }) => sum + (media.file_size ?? 0), 0) : 0;
  return [
    ...count,
    ...(durationS ? [length(durationS)] : []),
    ...(width && height ? [`${width}×${height}`] : []),
    ...(bytes ? [readable(bytes)] : []),
  ];
}

function sized({ media: { width, height } }: MediaContent): Measures {
  return width && height ? { width, height } : {};
}

/** How many tokens a language model has made, and how fast. */
function tokenWords({ result, isOwn, firstAt, endedAt }: Run): string[] {
  const count = result?.usage?.completion_tokens ?? result?.usage?.output_tokens;
  if (typeof count !== "number") return [];
  const ms = isOwn && firstAt !== undefined ? endedAt! - firstAt : 0;
  return [`${count} ${count === 1 ? "token" : "tokens"}`, ...(ms > LEAST_FLOW_MS ? [`${Math.round((1000 * count) / ms)}/s`] : [])];
}

function length(timeS: number): string {
  return timeS < 60 ? `${timeS.toFixed(1)} s long` : `${clock(Math.round(timeS))} min long`;
}
