/** Say in a few words how it stands: with the run that is shown, or, where there is none, with the server. */

import type { Past } from "../runs/history";
import { inSteps, ordinal, rounded, seconds } from "../runs/quantities";
import type { Readiness } from "../runs/ready";
import type { Run } from "../runs/run";

export interface Standing {
  /** What colour the words have, and whether something is going on. */
  tone: "calm" | "busy" | "good" | "bad";
  words: string;
  /** What else there is to know, in a few words each. */
  facts: string[];
}

const TONES: Record<Readiness["state"], Standing["tone"]> = {
  asked: "busy", ready: "good", loading: "busy", setup_failed: "bad", draining: "bad", broken: "bad", gone: "bad",
};

/** Say how the server stands. */
export function standingOfServer({ state, words }: Readiness): Standing {
  return { tone: TONES[state], words, facts: [] };
}

/** Say how a run stands; `pasts` tell how long others like it took. */
export function standingOf(run: Run, pasts: Past[], readiness: Readiness): Standing {
  if (run.isOver) return endOf(run);
  const busy = (words: string, ...facts: string[]): Standing => ({ tone: "busy", words, facts: facts.filter(Boolean) });
  if (run.isCancelling) return busy("Cancelling");
  if (!run.isSent) return busy("Waiting for your other runs");
  if (run.isOwn && run.endpoint?.kind === "session" && run.status !== "reconnecting") {
    return busy(run.status === "queued" ? "Connecting" : run.isFinished ? "Finishing" : "Connected");
  }
  if (run.status === "sought") return busy("Looking for the run");
  if (run.status === "reconnecting") return { tone: "bad", words: "Reconnecting", facts: [] };
  if (run.status === "running") return busy(progressWords(run));
  const place = placeWords(run.position);
  if (readiness.state === "loading") return busy(readiness.words, run.position ? place : "");
  return busy(place || "Sent", waitWords(run, pasts));
}

function endOf(run: Run): Standing {
  const { status, error, isOwn, endedAt, startedAt } = run;
  if (error?.code === "job_not_found") return { tone: "bad", words: "Not found", facts: [] };
  const took = isOwn && run.isSent && !run.isLost ? seconds(endedAt! - startedAt) : "";
  if (status === "succeeded") return { tone: "good", words: took ? `Done in ${took}` : "Done", facts: [] };
  const words = status === "cancelled" ? "Cancelled" : "Failed";
  return { tone: status === "cancelled" ? "calm" : "bad", words: took ? `${words} after ${took}` : words, facts: [] };
}

function progressWords({ progress }: Run): string {
  const { step, total, output } = progress ?? {};
  const given: object | undefined = typeof output === "object" && output !== null ? output : undefined;
  const isTold = !given || ("message" in given && given.message === progress?.message); // else the message is the value, as JSON
  const message = (isTold && progress?.message) || "";
  if (step === undefined) return message || "Running";
  return `Step ${step}${total ? ` of ${total}` : ""}${message && `: ${message}`}`;
}

function placeWords(position: number | undefined): string {
  if (position === undefined) return "";
  return position === 0 ? "Next in the queue" : `${ordinal(position + 1)} in the queue`;
}

function waitWords({ position, endpoint }: Run, pasts: Past[]): string {
  const alike = pasts.filter(({ path, status }) => path === endpoint?.path && status === "succeeded");
  const times = alike.flatMap(({ ms }) => ms ?? []).sort((a, b) => a - b);
  const usual = times[Math.floor(times.length / 2)];
  return usual === undefined || position === undefined ? "" : `about ${rounded((usual * (position + 1)) / 1000)}`; // the one that runs, too
}

const LEAST_LEFT_S = 2; // what is nearly done needs no foretelling
const LEAST_SEEN_MS = 500; // of the pace
const MOST_LATE = 1.25; // by which it may be later than was said before that is said anew

/** Foretell how long a run takes, in words that go down as time does: what was said is kept while it is about right. */
export class Foretold {
  #saidS: number | undefined;

  /** Return the words for now; "" where nobody can know. */
  at(now: number, { marks, progress, status }: Run): string {
    const leftS = status === "running" && progress?.total ? secondsLeft(now, marks, progress.total) : undefined;
    if (leftS === undefined || (this.#saidS === undefined && leftS < LEAST_LEFT_S)) return "";
    const isLater = this.#saidS !== undefined && leftS > this.#saidS && leftS < this.#saidS * MOST_LATE + 1;
    if (!isLater) this.#saidS = leftS < 1 ? 1 : inSteps(leftS);
    return leftS < 1 ? "a moment left" : `about ${rounded(this.#saidS!)} left`;
  }
}

function secondsLeft(now: number, marks: Run["marks"], total: number): number | undefined {
  const [first, last] = [marks[0], marks.at(-1)];
  if (!first || !last || last.at - first.at < LEAST_SEEN_MS) return undefined;
  const perStep = (last.at - first.at) / (last.step - first.step);
  const sinceLast = Math.min(now - last.at, perStep); // a step that takes longer takes nothing from those behind it
  return Math.max(0, perStep * (total - last.step) - sinceLast) / 1000;
}
