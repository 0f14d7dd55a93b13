/** How loud a whole sound is from its beginning to its end, where it is small enough to be decoded for that. */

import { bytesOf, type Media } from "./content";

/** The loudness, from 0 to 1, in equal spans of time. */
export interface Outline {
  peaks: number[];
  durationS: number;
}

const SPANS = 600; // no player is so wide that it shows more
const RATE = 8_000; // a picture needs no more, and no browser has less: https://webaudio.github.io/web-audio-api/#sample-rates
// The browser holds all of it while it decodes: five minutes may take 115 MB.
const MOST_S = 300;
const MOST_BYTES = 20e6;
const MOST_UNTOLD_BYTES = 2e6; // of a file that does not say how long it is, as browsers record them

const known = new WeakMap<Media, Promise<Outline | undefined>>();
let last: Promise<unknown> = Promise.resolve(); // one is decoded at a time

/** Return the outline of a sound; undefined where it is too long, or none. `durationS` is what its player says. */
export function outlineOf(media: Media, durationS: number): Promise<Outline | undefined> {
  let outline = known.get(media);
  if (!outline) {
    outline = last.then(() => decoded(media, durationS)).catch(() => undefined);
    known.set(media, outline);
    last = outline;
  }
  return outline;
}

/** Put peaks into fewer spans, each as loud as its loudest. */
export function folded(peaks: number[], count: number): number[] {
  return Array.from({ length: count }, (_, n) => {
    const from = Math.floor((n * peaks.length) / count);
    const until = Math.max(from + 1, Math.floor(((n + 1) * peaks.length) / count));
    return Math.max(...peaks.slice(from, until));
  });
}

async function decoded({ url }: Media, durationS: number): Promise<Outline | undefined> {
  if (Number.isFinite(durationS) && durationS > MOST_S) return undefined;
  const bytes = await fewBytesOf(url, Number.isFinite(durationS) ? MOST_BYTES : MOST_UNTOLD_BYTES);
  if (!bytes) return undefined;
  const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, n) => buffer.getChannelData(n));
  const peaks = Array<number>(SPANS).fill(0);
  for (const frames of channels) {
    for (let n = 0; n < frames.length; n++) {
      const span = Math.floor((n * SPANS) / frames.length);
      peaks[span] = Math.max(peaks[span]!, Math.abs(frames[n]!));
    }
  }
  return { peaks, durationS: buffer.duration };
}

/** Return a file's bytes, unless they are too many: those of a server are then not asked for. */
async function fewBytesOf(url: string, most: number): Promise<ArrayBuffer | undefined> {
  if (/^data:/i.test(url)) return url.length * 0.75 > most ? undefined : bytesOf(url);
  const response = await fetch(url);
  if (response.ok && Number(response.headers.get("Content-Length") ?? Infinity) <= most) return response.arrayBuffer();
  response.body?.cancel();
  return undefined;
}
