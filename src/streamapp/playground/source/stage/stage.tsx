/** The stage: what the app makes, as large as there is room, and in a line below it how that goes. */

import { type ReactNode, type Ref } from "react";

import { Guard } from "../parts/guard";
import type { Frames } from "../runs/frames";
import type { Past } from "../runs/history";
import type { Readiness } from "../runs/ready";
import type { Run } from "../runs/run";
import { Foot } from "./foot";
import { Output } from "./output";
import type { Standing } from "./status";
import { Failed, isTroubled, ServerTrouble, Trouble } from "./trouble";

interface StageProps {
  run: Run | undefined;
  frames: Frames;
  pasts: Past[];
  standing: Standing;
  readiness: Readiness;
  /** Why the link that was opened shows nothing. */
  wrong: string | undefined;
  /** What stands there before anything has been run. */
  empty: ReactNode;
  /** Where it is a conversation, that. */
  chat: ReactNode;
  /** What stands there instead of the run for a while. */
  instead: ReactNode;
  actions: ReactNode;
  ref: Ref<HTMLElement>;
}

/** Always there, and always of one height at the least. */
export function Stage({ run, frames, pasts, standing, readiness, wrong, empty, chat, instead, actions, ref }: StageProps) {
  const isSetupTold = run !== undefined && readiness.traceback !== undefined && run.error?.code !== "setup_failed";
  return (
    <section aria-label="Output" className="card stage" ref={ref}>
      {run && !run.isOver && <ProgressLine run={run} />}
      <div className="scene-room">
        {wrong && <Trouble words={wrong} remedy="Check the link, or begin here with the form." />}
        {chat}
        {!run && !wrong && (isTroubled(readiness) ? <ServerTrouble readiness={readiness} /> : !chat && empty)}
        {run && (instead || <Guard key={run.startedAt}><Output {...{ run, frames, pasts }} isTalk={Boolean(chat)} /></Guard>)}
        {run?.status === "failed" && run.error && <Failed error={run.error} />}
        {run?.inputError && <Trouble words={run.inputError.message} />}
        {isSetupTold && <ServerTrouble readiness={readiness} />}
      </div>
      <Foot {...{ run, standing, readiness, actions }} />
    </section>
  );
}

/** A line as thin as can be seen, along the top; where nobody knows how far it is, it says only that it goes on. */
function ProgressLine({ run: { progress, status } }: { run: Run }) {
  const { step, total } = progress ?? {};
  const isKnown = step !== undefined && Boolean(total);
  return (
    <div role="progressbar" aria-label="Progress" className={isKnown ? "progress" : `progress unknown ${status}`}
      {...(isKnown && { "aria-valuemin": 0, "aria-valuenow": step, "aria-valuemax": total! })}>
      <div ref={(line) => void line?.style.setProperty("width", isKnown ? `${Math.min(100, (100 * step) / total!)}%` : "")} />
    </div>
  );
}
