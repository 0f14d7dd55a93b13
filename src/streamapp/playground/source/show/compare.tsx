/** Show two images over each other, with a divider between them. */

import { useState } from "react";

import type { Media } from "../runs/content";

interface CompareProps {
  before: Media;
  after: Media;
}

/** In one box of the shape of the later one; the divider is dragged, or moved by arrow keys. */
export function Compare({ before, after }: CompareProps) {
  const [share, setShare] = useState(50);
  const [ratio, setRatio] = useState(after.width && after.height ? after.width / after.height : 1);
  const shape = (box: HTMLElement | null) => {
    box?.style.setProperty("--ratio", String(ratio));
    box?.style.setProperty("--share", `${share}%`);
  };
  return (
    <figure className="compare" aria-label="Comparison" ref={shape}>
      <div className="side">
        <img src={after.url} alt="after" draggable={false} onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => setRatio(naturalWidth / naturalHeight)} />
        <span className="label" aria-hidden="true">After</span>
      </div>
      <div className="side earlier">
        <img src={before.url} alt="before" draggable={false} />
        <span className="label" aria-hidden="true">Before</span>
      </div>
      <input type="range" aria-label="Compare" min={0} max={100} value={share} aria-valuetext={`${share} % before, ${100 - share} % after`}
        onChange={({ target }) => setShare(target.valueAsNumber)} />
    </figure>
  );
}
