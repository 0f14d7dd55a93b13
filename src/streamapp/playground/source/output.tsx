/** Show what a job brings: live, and when it is over. */

import { useEffect, useState } from "react";
import { stringifyJson } from "streamapp-client";

import { unique } from "./content";
import { Contents } from "./contents";
import { CopyButton, Meter } from "./parts";
import type { Frame, Run } from "./run";
import { SoundView } from "./soundview";
import { Strip } from "./strip";
import { Text } from "./text";
import { Tree } from "./tree";

/** What the region "Output" holds. */
export function Output({ run }: { run: Run }) {
  const [chosen, choose] = useState<number>();
  useEffect(() => choose(undefined), [run]);
  const results: Frame = { kind: "result", contents: unique([...run.results.values()]) };
  const frames = results.contents.length ? [...run.frames, results] : run.frames;
  const newest = run.isPreviewed && !run.isOver ? run.frames.findLastIndex(({ kind }) => kind === "preview") : -1;
  const end = newest < 0 ? frames.length - 1 : newest;
  const at = Math.min(chosen ?? end, frames.length - 1);
  const shown = frames[at];
  return (
    <div className="output">
      <Progress run={run} />
      {run.attempt > 1 && <p className="note">Its worker was lost: this is attempt {run.attempt}, and what came before does not count.</p>}
      {run.answer && <p className="note">{run.answer}</p>}
      {[...run.sounds].map(([slot, sound]) => <SoundView key={sound.id} sound={sound} name={slot} run={run} />)}
      {shown && <Contents frame={shown} isOver={run.isOver} />}
      {frames.length > 1 && <Strip frames={frames} at={at} choose={(n) => choose(n === end ? undefined : n)} />}
      {run.text && <Text text={run.text} isSource={run.isPlain} />}
      {run.outputs.length > 0 && <Outputs run={run} />}
      {run.skipped > 0 && <p className="note">{run.skipped} events came and went before this page could read them.</p>}
      {run.count === 0 && run.status !== "failed" && <p className="empty">{waiting(run)}</p>}
    </div>
  );
}

function waiting(run: Run): string {
  if (run.isOver) return "Nothing came.";
  if (run.status === "sought") return "Asking the server for it.";
  if (run.takesInputs) return "Nothing has come yet. Send an input.";
  return run.status === "queued" ? "Waiting for its turn." : "Running; nothing has come yet.";
}

const IN_WORDS: ReadonlySet<string> = new Set(["step", "total", "message"]);

function Progress({ run }: { run: Run }) {
  const { progress } = run;
  if (!progress) return null;
  const { step, total, message, output } = progress;
  const steps = step === undefined ? [] : [`step ${step}${total ? ` of ${total}` : ""}`];
  const given: object | undefined = typeof output === "object" && output !== null ? output : undefined;
  const isTold = !given || ("message" in given && given.message === message); // else the message is the value, as JSON
  const words = [...steps, ...(message && isTold ? [message] : [])].join(": ");
  return (
    <>
      <div className="progress">
        {step !== undefined && <Meter label="Progress" value={step} max={total ?? undefined} />}
        <span>{words}</span>
        {!run.isOver && <span>{remaining(run)}</span>}
      </div>
      {given && run.status !== "succeeded" && Object.keys(given).some((key) => !IN_WORDS.has(key)) && (
        <div className="json"><Tree value={given} name="progress" isOpen /></div>
      )}
    </>
  );
}

function remaining(run: Run): string {
  const { progress, runningAt, arrivals } = run;
  const { step = 0, total } = progress ?? {};
  if (!total || runningAt === undefined || step < 2) return "";
  const perStep = (arrivals.at(-1)!.at - runningAt) / step;
  return `about ${((perStep * (total - step)) / 1000).toFixed(1)} s left`;
}

/** The events as JSON; the last one, the result, is open. */
function Outputs({ run }: { run: Run }) {
  const [last, ...others] = [...run.outputs].reverse();
  const hidden = run.outputCount - run.outputs.length;
  return (
    <section className="json" aria-label="JSON">
      <CopyButton name="Copy JSON" text={() => stringifyJson(last!.data, 2)} />
      <Tree value={last!.data} name={run.status === "succeeded" ? "result" : last!.name} isOpen />
      {others.length > 0 && (
        <details>
          <summary>{others.length} earlier events</summary>
          {others.map(({ name, data }, n) => <Tree key={others.length - n} value={data} name={name} />)}
          {hidden > 0 && <p className="note">{hidden} before these are not kept</p>}
        </details>
      )}
    </section>
  );
}
