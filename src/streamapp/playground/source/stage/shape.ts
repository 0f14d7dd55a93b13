/** Foretell the shape of a picture that is being made. */

import { useEffect, useState } from "react";

import type { Past } from "../runs/history";
import { pictureAt } from "../runs/picture";
import type { Run } from "../runs/run";
import { isRecord } from "../runs/schema";

/** Width by height. */
type Ratio = number;

/** Return what an input asks for: its width and height, or a size or proportion by its name. */
function askedRatio(input: unknown): Ratio | undefined {
  if (!isRecord(input)) return undefined;
  const { width, height } = input;
  if (typeof width === "number" && typeof height === "number") return ratioOf(width, height);
  for (const [name, value] of Object.entries(input)) {
    if (/size$|resolution|aspect|ratio$|format$/i.test(name)) {
      const found = typeof value === "string" ? namedRatio(value) : isRecord(value) ? askedRatio(value) : undefined;
      if (found) return found;
    }
  }
  return undefined;
}

const MOST_COUNT = 16;

/** Return how many pictures an input asks for. */
export function askedCount(input: unknown): number {
  const count = Object.entries(isRecord(input) ? input : {}).find(([name]) => /^(n|count|batch_size|num_(images|outputs|samples)(_per_prompt)?)$/.test(name))?.[1];
  return typeof count === "number" && count > 1 && count <= MOST_COUNT ? Math.floor(count) : 1;
}

/** Read "1024x768", "16:9", and what fal calls its sizes, https://docs.fal.ai: "square_hd", "portrait_4_3". */
function namedRatio(name: string): Ratio | undefined {
  const [, a, b] = /(\d+)\s*[:x×*_/]\s*(\d+)/i.exec(name)?.map(Number) ?? [];
  if (/^square/.test(name)) return 1;
  const ratio = a && b ? ratioOf(a, b) : undefined;
  const isNamed = /^(portrait|landscape)/.test(name);
  if (!ratio || !isNamed) return ratio;
  return name.startsWith("portrait") ? Math.min(ratio, 1 / ratio) : Math.max(ratio, 1 / ratio);
}

function ratioOf(width: number, height: number): Ratio | undefined {
  const ratio = width / height;
  return ratio > 0.1 && ratio < 10 ? ratio : undefined;
}

/** Return the shape of what a run is going to show: as it was asked for, or as the last picture of its endpoint; undefined where nobody knows. */
export function useRatio(run: Run, pasts: Past[]): Ratio | undefined {
  const asked = askedRatio(run.input);
  const picture = asked ? undefined : pasts.find(({ path, picture }) => path === run.endpoint?.path && picture)?.picture;
  const [seen, setSeen] = useState<{ picture: string; ratio: Ratio }>();
  useEffect(() => {
    if (!picture) return;
    pictureAt(picture).then((image) => image && setSeen({ picture, ratio: image.naturalWidth / image.naturalHeight }));
  }, [picture]);
  const { width, height } = run.endpoint?.schema.properties ?? {};
  const usual = width && height ? 1 : undefined; // where the app chooses the size of what is a picture
  return asked ?? (picture && seen?.picture === picture ? seen.ratio : usual);
}
