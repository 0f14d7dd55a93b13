/** Remember past runs in this browser. */

import { parseJson, stringifyJson } from "streamapp-client";

import type { Run, Status } from "./run";
import { keep, recall } from "./storage";

export interface Past {
  jobId: string;
  path: string;
  input: Record<string, unknown>;
  status: Status | "unknown";
  /** When it was started, in milliseconds since 1970. */
  at: number;
  /** How long it took; unknown when this page has not seen all of it. */
  ms?: number;
  seed?: number | bigint;
  /** A small picture of the result, as a data URI. */
  picture?: string | undefined;
}

const MOST = 50;
const PICTURE_PX = 96;

export class History {
  #key: string;

  /** `server` tells apart the servers of one origin. */
  constructor(server: string) {
    this.#key = `streamapp:history:${server}`;
  }

  /** Return the runs, the newest first. */
  all(): Past[] {
    return parseJson(recall("localStorage", this.#key) ?? "[]");
  }

  /** Add a run, or replace what was known of it; returns all. The oldest are forgotten where there is no room. */
  put(past: Past): Past[] {
    const known = this.all().find(({ jobId }) => jobId === past.jobId);
    const others = this.all().filter(({ jobId }) => jobId !== past.jobId);
    const runs = [{ ...known, ...past, at: known?.at ?? past.at }, ...others].sort((a, b) => b.at - a.at).slice(0, MOST);
    let most = runs.length;
    while (most > 0 && !keep("localStorage", this.#key, stringifyJson(runs.slice(0, most)))) most = Math.floor(most / 2);
    return runs;
  }

  /** Forget all. */
  clear(): Past[] {
    keep("localStorage", this.#key, "[]");
    return [];
  }
}

/** Say what is to be remembered of a run; undefined before it has an id, or when it is another page's. */
export async function pastOf(run: Run): Promise<Past | undefined> {
  const { jobId, status, input, endpoint } = run;
  if (!jobId || !endpoint || !input) return undefined;
  const past: Past = { jobId, path: endpoint.path, input, status, at: Date.now() };
  if (run.isOwn && run.endedAt !== undefined) past.ms = run.endedAt - run.startedAt;
  const seed = seedOf(run.result);
  if (seed !== undefined) past.seed = seed;
  const image = [...run.results.values()].find((content) => content.kind === "image");
  if (run.isOver && image && "media" in image) past.picture = await shrunk(image.media.url);
  return past;
}

/** Return the seed that a result tells. */
export function seedOf(result: any): number | bigint | undefined {
  const seed = result?.seed;
  return typeof seed === "number" || typeof seed === "bigint" ? seed : undefined;
}

async function shrunk(url: string): Promise<string | undefined> {
  const image = new Image();
  image.src = url;
  if (!(await image.decode().then(() => true, () => false))) return undefined; // no image, whatever it is called
  const scale = PICTURE_PX / Math.max(image.naturalWidth, image.naturalHeight);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, image.naturalWidth * scale);
  canvas.height = Math.max(1, image.naturalHeight * scale);
  canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.7);
}
