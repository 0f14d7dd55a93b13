/** Look again at what was shown before. */

import { useId } from "react";

import { imageIn } from "../runs/content";
import type { Frame } from "../runs/run";

const MOST_PICTURES = 12;

interface StripProps {
  frames: Frame[];
  at: number;
  choose: (n: number) => void;
}

/** Scrub through all previews, by slider or by picture. */
export function Strip({ frames, at, choose }: StripProps) {
  const id = useId();
  const name = nameOf(frames[at]!);
  return (
    <div className="strip">
      <div className="line">
        <label htmlFor={id}>Previews</label>
        <input id={id} type="range" min={0} max={frames.length - 1} value={at} aria-valuetext={name}
          onChange={({ target }) => choose(target.valueAsNumber)} />
        <span className="note">{name}</span>
      </div>
      <Pictures {...{ frames, at, choose }} />
    </div>
  );
}

function nameOf({ kind, step }: Frame): string {
  return kind === "preview" && step !== undefined ? `step ${step}` : kind;
}

/** For the mouse; the slider says the same. Each picture stays where it is until every second one is left out. */
function Pictures({ frames, at, choose }: StripProps) {
  const every = 2 ** Math.max(0, Math.ceil(Math.log2(frames.length / MOST_PICTURES)));
  return (
    <div className="pictures">
      {frames.map((frame, n) => {
        const url = n % every === 0 || n === frames.length - 1 ? imageIn(frame.contents)?.url : undefined;
        return url && <img key={n} src={url} alt="" className={n === at ? "chosen" : ""} onClick={() => choose(n)} />;
      })}
    </div>
  );
}
