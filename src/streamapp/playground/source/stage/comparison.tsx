/** Hold a result beside the one before. */

import { type ReactNode, useEffect, useState } from "react";

import { lately } from "../parts/lately";
import { imageIn, type Media } from "../runs/content";
import type { Desk } from "../runs/desk";
import type { Run } from "../runs/run";
import { mediaOf } from "./files";

const Compare = lately(async () => (await import("../show/compare")).Compare);

export interface Comparison {
  /** Whether both runs have an image. */
  isPossible: boolean;
  isOn: boolean;
  toggle: () => void;
  /** What stands in the place of the result while it is on. */
  view: ReactNode;
}

/** Compare the run that is shown with the newest before it, on the same endpoint, that has an image. */
export function useComparison(run: Run | undefined, { pasts, imageOf }: Desk): Comparison {
  const [wanted, setWanted] = useState<Run>();
  const [found, setFound] = useState<{ jobId: string; image: Media | undefined }>();
  const after = run?.isOver ? imageIn(mediaOf(run)) : undefined;
  const at = pasts.findIndex(({ jobId }) => jobId === run?.jobId);
  const before = after && at >= 0 ? pasts.slice(at + 1).find(({ path, picture }) => path === run?.endpoint?.path && picture)?.jobId : undefined;
  const isOn = before !== undefined && wanted === run;
  useEffect(() => {
    if (!isOn) return;
    let isCurrent = true;
    imageOf(before).then((image) => isCurrent && setFound({ jobId: before, image }));
    return () => void (isCurrent = false);
  }, [isOn, before]);
  const image = found?.jobId === before ? found?.image : undefined;
  const isGone = isOn && found?.jobId === before && !image;
  return {
    isPossible: before !== undefined,
    isOn,
    toggle: () => setWanted(isOn ? undefined : run),
    view: !isOn ? undefined
      : image ? <Compare before={image} after={after!} />
      : <p className="blank">{isGone ? "The server no longer has the image before." : "Getting the image before"}</p>,
  };
}
