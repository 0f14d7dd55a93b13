/** Show what a job brings: live, and when it is over. */

import { Json } from "../panels/json";
import { FoldingTree, Tree } from "../panels/tree";
import { lately } from "../parts/lately";
import { besides } from "../runs/content";
import type { Frames } from "../runs/frames";
import type { Past } from "../runs/history";
import type { Frame, Run } from "../runs/run";
import { Contents } from "../show/contents";
import { shaped } from "../show/image";
import { Text } from "../show/text";
import { askedCount, useRatio } from "./shape";

const SoundView = lately(async () => (await import("../show/soundview")).SoundView);

interface OutputProps {
  run: Run;
  frames: Frames;
  pasts: Past[];
  /** Whether its text stands in a conversation. */
  isTalk: boolean;
}

/** What a run has brought, by its kind; what has no other form is JSON. */
export function Output({ run, frames, pasts, isTalk }: OutputProps) {
  const shown = frames.all[frames.at];
  const isJson = run.outputs.length > 0 && !run.results.size && !run.text && !run.sounds.size && (!isTalk || run.isOver); // it has no other form
  const isThere = isTalk || isJson || shown || run.text || run.sounds.size > 0;
  return (
    <div className="output">
      {run.attempt > 1 && <p className="note">It was interrupted, and started again: attempt {run.attempt}.</p>}
      {run.answer && <p className="note">{run.answer}</p>}
      <Told run={run} />
      {[...run.sounds].map(([slot, sound]) => <SoundView key={sound.id} sound={sound} name={slot} run={run} />)}
      {shown && <Contents frame={shown} />}
      {run.text && !isTalk && <Text text={run.text} isSource={run.isPlain} isGrowing={!run.isOver} />}
      {isJson && <Json run={run} />}
      {shown && !isTalk && <Besides run={run} frame={shown} />}
      {run.skipped > 0 && <p className="note">{run.skipped} events came too fast for this page, and are missing here.</p>}
      {!isThere && (run.isOver ? <Nothing run={run} /> : <Awaited run={run} pasts={pasts} />)}
    </div>
  );
}

/** What stands there until something has come: the place of the picture, where one is awaited. */
function Awaited({ run, pasts }: Omit<OutputProps, "frames" | "isTalk">) {
  const ratio = useRatio(run, pasts);
  if (!ratio || run.takesInputs || run.status === "sought") return <p className="blank">{waiting(run)}</p>;
  const count = askedCount(run.input);
  const places = Array.from({ length: count }, (_, n) => <figure key={n} className="image awaited"><img src={EMPTY} alt="" /></figure>);
  return <div className="contents"><div className={count > 1 ? "images grid" : "images"} ref={shaped(ratio, count)}>{places}</div></div>;
}

// A picture in the place of a picture: it is laid out as what comes.
const EMPTY = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>";

function waiting(run: Run): string {
  if (run.status === "sought") return "Getting it from the server";
  if (run.takesInputs) return "Connected: send an input";
  return run.status === "queued" ? "Waiting for its turn" : "Working";
}

function Nothing({ run }: { run: Run }) {
  if (run.status === "failed") return null;
  return <p className="blank">{run.status === "cancelled" ? "It was cancelled before there was anything to show." : "It is done. There is nothing to show."}</p>;
}

/** What stands in a result beside its tables: a verdict, a sum, what a table alone does not tell. */
function Besides({ run, frame: { kind, contents } }: { run: Run; frame: Frame }) {
  const last = run.outputs.at(-1);
  if (!last || kind !== "result" || run.text || !contents.every((content) => content.kind === "table")) return null;
  const others = besides(last.data, contents);
  return others === undefined ? null : <div className="json"><FoldingTree value={others} name="result" /></div>;
}

const IN_WORDS: ReadonlySet<string> = new Set(["step", "total", "message"]);

/** What a handler of Runpod's kind gave as its progress, where words do not say all of it. */
function Told({ run: { progress, status } }: { run: Run }) {
  const given = progress?.output;
  if (typeof given !== "object" || given === null || status === "succeeded") return null;
  if (Object.keys(given).every((key) => IN_WORDS.has(key))) return null;
  return <div className="json"><Tree value={given} name="progress" isOpen /></div>;
}
