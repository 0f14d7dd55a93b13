/** Remember past runs in this browser. */

import { parseJson, stringifyJson } from "streamapp-client";

import { JOB_ID } from "./link";
import type { Run, Status } from "./run";
import { type Input, isRecord } from "./schema";
import { keep, recall } from "./storage";

export interface Past {
  jobId: string;
  path: string;
  input: Input;
  status: Status | "unknown";
  /** When it was started, in milliseconds since 1970. */
  at: number;
  /** How long it took; unknown when this page has not seen all of it. */
  ms?: number;
  seed?: number | bigint;
  /** A small picture of the result, as a data URI. */
  picture?: string | undefined;
}

const STATUSES = ["queued", "running", "reconnecting", "succeeded", "cancelled", "failed", "unknown"] satisfies Past["status"][];
const MOST = 50;
const PICTURE_PX = 96;

/** The runs of this browser; where it keeps nothing, or has no room, those of this visit. */
export class History {
  #key: string;
  #unkept: Past[] | undefined;

  /** `server` tells apart the servers of one origin. */
  constructor(server: string) {
    this.#key = `streamapp:history:${server}`;
  }

  /** Return the runs, the newest first; what others have written there, or an older page, is left out. */
  all(): Past[] {
    return this.#unkept ?? pastsIn(recall("localStorage", this.#key) ?? "[]");
  }

  /** Add a run, or replace what was known of it; returns all. The oldest are forgotten where there is no room. */
  put(past: Past): Past[] {
    const all = this.all();
    const known = all.find(({ jobId }) => jobId === past.jobId);
    const others = all.filter(({ jobId }) => jobId !== past.jobId);
    return this.#keep([{ ...known, ...past, at: known?.at ?? past.at }, ...others].sort((a, b) => b.at - a.at).slice(0, MOST));
  }

  /** Forget all. */
  clear(): Past[] {
    return this.#keep([]);
  }

  #keep(runs: Past[]): Past[] {
    const isKept = (most: number) => keep("localStorage", this.#key, stringifyJson(runs.slice(0, most)));
    let most = runs.length;
    while (!isKept(most) && most > 0) most = Math.floor(most / 2);
    this.#unkept = most < runs.length ? runs : undefined;
    return runs;
  }
}

function pastsIn(text: string): Past[] {
  try {
    return [parseJson(text)].flat().filter(isPast).slice(0, MOST);
  } catch {
    return []; // no JSON
  }
}

function isPast(value: unknown): value is Past {
  if (!isRecord(value)) return false;
  const { jobId, path, input, status, at, ms = 0, seed = 0, picture = "data:image/" } = value;
  const isNumbers = [at, ms].every(Number.isFinite) && ["number", "bigint"].includes(typeof seed);
  const isNamed = typeof jobId === "string" && JOB_ID.test(jobId) && STATUSES.some((one) => one === status);
  const begins = (text: unknown, start: string) => typeof text === "string" && text.startsWith(start);
  return isNumbers && isNamed && input !== undefined && begins(path, "/") && begins(picture, "data:image/");
}

/** Say what is to be remembered of a run; undefined before it has an id, and while, or because, the server does not know it. */
export async function pastOf(run: Run): Promise<Past | undefined> {
  const { jobId, status, input, endpoint, error } = run;
  if (!jobId || !endpoint || input === undefined || status === "sought" || error?.code === "job_not_found") return undefined;
  const past: Past = { jobId, path: endpoint.path, input, status: run.isLost ? "running" : status, at: Date.now() };
  if (run.isOwn && !run.isLost && run.endedAt !== undefined) past.ms = run.endedAt - run.startedAt;
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
