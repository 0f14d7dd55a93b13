/** Remember past runs in this browser. */

import { parseJson, stringifyJson } from "streamapp-client";

import type { Content, Media } from "./content";
import { JOB_ID } from "./link";
import { measured } from "./measure";
import { folded, outlineOf } from "./outline";
import { pictureAt, smallOf } from "./picture";
import type { Run, Status } from "./run";
import { type Input, isRecord } from "./schema";
import type { Sound } from "./sound";
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
  /** How loud its sound is, from 0 to 1, in equal spans. */
  wave?: number[];
  /** What its text begins with. */
  words?: string;
}

const STATUSES = ["queued", "running", "reconnecting", "succeeded", "cancelled", "failed", "unknown"] satisfies Past["status"][];
const MOST = 50;
const BARS = 24;
const MOST_WORDS = 120; // letters
const MOST_WAIT_MS = 10_000; // for a film to say what it shows

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
    const known = this.all().find(({ jobId }) => jobId === past.jobId);
    return this.add([{ ...known, ...past, at: known?.at ?? past.at }]);
  }

  /** Take runs back that were forgotten, beside those that have come since. */
  add(pasts: Past[]): Past[] {
    const all = new Map([...this.all(), ...pasts].map((past) => [past.jobId, past]));
    return this.#keep([...all.values()].sort((a, b) => b.at - a.at).slice(0, MOST));
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
  const { jobId, path, input, status, at, ms = 0, seed = 0, picture = "data:image/", wave = [], words = "" } = value;
  const isNumbers = Array.isArray(wave) && [at, ms, ...wave].every(Number.isFinite) && ["number", "bigint"].includes(typeof seed);
  const isNamed = typeof jobId === "string" && JOB_ID.test(jobId) && STATUSES.some((one) => one === status);
  const begins = (text: unknown, start: string) => typeof text === "string" && text.startsWith(start);
  return isNumbers && isNamed && typeof words === "string" && input !== undefined && begins(path, "/") && begins(picture, "data:image/");
}

/** Say what is to be remembered of a run; undefined before it has an id, and while, or because, the server does not know it. */
export function pastOf(run: Run): Past | undefined {
  const { jobId, status, input, endpoint, error } = run;
  if (!jobId || !endpoint || input === undefined || status === "sought" || error?.code === "job_not_found") return undefined;
  const past: Past = { jobId, path: endpoint.path, input, status: run.isLost ? "running" : status, at: Date.now() };
  if (run.isOwn && !run.isLost && run.endedAt !== undefined) past.ms = run.endedAt - run.startedAt;
  const seed = seedOf(run.result);
  if (seed !== undefined) past.seed = seed;
  return past;
}

/** Say how a run that is over looks in small: a picture of what it has made, its waveform, or its first words. */
export async function lookOf({ results, frames, sounds, text }: Run): Promise<Pick<Past, "picture" | "wave" | "words">> {
  const contents = results.size ? [...results.values()] : (frames.at(-1)?.contents ?? []); // it may have ended before
  const first = (kind: Content["kind"]) => contents.flatMap((content) => (content.kind === kind && "media" in content ? content.media : []))[0];
  const [image, video, audio] = [first("image"), first("video"), first("audio")];
  const picture = (image && (await shrunk(image.url))) || (video && (await firstOf(video.url)));
  if (picture) return { picture };
  const [sound] = sounds.values();
  if (sound) await whole(sound);
  const wave = sound ? sound.loudness(BARS, sound.endS) : audio && (await waveOf(audio));
  if (wave) return { wave: wave.map((peak) => Math.round(100 * peak) / 100) };
  const words = text.slice(0, 2 * MOST_WORDS).replace(/[#*_`>|]+/g, "").trim().slice(0, MOST_WORDS); // without the marks of Markdown
  return words ? { words } : {};
}

/** Return the seed that a result tells. */
export function seedOf(result: any): number | bigint | undefined {
  const seed = result?.seed;
  return typeof seed === "number" || typeof seed === "bigint" ? seed : undefined;
}

async function shrunk(url: string): Promise<string | undefined> {
  const image = await pictureAt(url);
  return image && smallOf(image, image.naturalWidth, image.naturalHeight);
}

/** Return what a film shows at its beginning. */
async function firstOf(url: string): Promise<string | undefined> {
  const film = Object.assign(document.createElement("video"), { muted: true, preload: "auto", src: url });
  const isThere = await new Promise<boolean>((resolve) => {
    film.onloadeddata = () => resolve(true);
    film.onerror = () => resolve(false);
    setTimeout(() => resolve(false), MOST_WAIT_MS);
  });
  return isThere ? smallOf(film, film.videoWidth, film.videoHeight) : undefined;
}

async function waveOf(media: Media): Promise<number[] | undefined> {
  const { durationS = NaN } = await measured("audio", media.url);
  const outline = await outlineOf(media, durationS);
  return outline && folded(outline.peaks, BARS);
}

/** Wait until all of a sound is decoded. */
function whole(sound: Sound): Promise<void> {
  return new Promise((resolve) => {
    const look = () => sound.isWhole && resolve();
    sound.subscribe(look);
    look();
  });
}
