/** Keep a small picture of what is shown in three dimensions, for the strip of past runs. */

import { type RefObject, useEffect } from "react";

import { smallOf } from "../runs/picture";
import type { Run } from "../runs/run";

const LOOK_MS = 400;
const MOST_LOOKS = 20;

/** Take it from the view when that has drawn the result: it is loaded, and reads its file, in its own time. */
export function useSnapshot(run: Run | undefined, stage: RefObject<HTMLElement | null>, keep: (jobId: string, picture: string) => void): void {
  const isSolid = run?.status === "succeeded" && run.jobId !== undefined && [...run.results.values()].some(({ kind }) => kind === "mesh" || kind === "voxels");
  useEffect(() => {
    if (!isSolid) return;
    let looks = 0;
    const timer = setInterval(() => {
      const canvas = stage.current?.querySelector("canvas");
      const picture = canvas ? pictureOf(canvas) : undefined;
      if (picture) keep(run.jobId!, picture);
      if (picture || ++looks > MOST_LOOKS) clearInterval(timer);
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, [run, isSolid]);
}

/** Return the middle of it; undefined while it is empty. */
function pictureOf(canvas: HTMLCanvasElement): string | undefined {
  const side = Math.min(canvas.width, canvas.height);
  const square = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = square.getContext("2d", { willReadFrequently: true })!;
  if (!side) return undefined;
  context.drawImage(canvas, (side - canvas.width) / 2, (side - canvas.height) / 2);
  const isDrawn = context.getImageData(0, 0, side, side).data.some((value, n) => n % 4 === 3 && value > 0);
  return isDrawn ? smallOf(square, side, side) : undefined;
}
