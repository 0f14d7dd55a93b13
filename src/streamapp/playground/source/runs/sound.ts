/** Sounds that come in chunks, decoded as they come. */

import { bytesOf, type Chunk, type Media } from "./content";
import { wavOf } from "./wav";

/** A chunk that can be played. */
export interface Part {
  startS: number;
  buffer: AudioBuffer;
}

const USUAL_RATE = 48_000;
const RATES = [8_000, 96_000] as const; // that each browser has: https://webaudio.github.io/web-audio-api/#sample-rates
const MOST_S = 600; // that are kept decoded, of all sounds of the visit: a minute may take 15 MB
const ROUGH_S = 0.06; // by how much an app may be wrong about where a chunk begins
const PEAKS_PER_S = 25;

let made = 0;
const kept = new Set<Sound>(); // in the order in which they have begun

/** What has come of one sound. */
export class Sound {
  /** Frames a second: what is decoded at its own rate joins to the sample. */
  readonly rate: number;
  /** Why a chunk could not be played. */
  failure: string | undefined;
  /** Whether a player has begun it by itself: when it is shown again it waits to be asked. */
  isBegun = false;
  /** Where it was when it was last shown. */
  leftS: number | undefined;
  /** All of it as one file, where the app has made one. */
  file: Media | undefined;
  readonly id = ++made;

  #isLast = false;
  #undecoded = 0;
  #parts: Part[] = [];
  #peaks = new Map<number, number>();
  #decoded: Promise<void> = Promise.resolve();
  #listeners = new Set<() => void>();

  constructor(rate: number | undefined) {
    this.rate = rate !== undefined && rate >= RATES[0] && rate <= RATES[1] ? rate : USUAL_RATE;
  }

  /** Take the next chunk; it is there when it is decoded, in its turn. */
  add(chunk: Chunk): void {
    this.#undecoded++;
    this.#decoded = this.#decoded.then(() => this.#decode(chunk));
  }

  /** Know that no more chunks come. */
  end(): void {
    this.#isLast = true;
  }

  /** Whether all of it is there. */
  get isWhole(): boolean {
    return this.#isLast && this.#undecoded === 0;
  }

  /** Call a function when there is more; returns what stops that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether it had to make room, so that there is nothing left to be played. */
  get isGone(): boolean {
    return this.#isLast && this.#parts.length === 0 && this.failure !== undefined;
  }

  get startS(): number {
    return this.#parts[0]?.startS ?? 0;
  }

  get endS(): number {
    const last = this.#parts.at(-1);
    return last ? last.startS + last.buffer.duration : 0;
  }

  /** Return the part in which a time is, or the first. */
  at(timeS: number): Part | undefined {
    return this.#parts.findLast(({ startS }) => startS <= timeS) ?? this.#parts[0];
  }

  /** Return the part behind one. */
  behind(part: Part): Part | undefined {
    return this.#parts[this.#parts.indexOf(part) + 1];
  }

  /** Return how loud it is, from 0 to 1, in each of `count` equal spans from its start to a time. */
  loudness(count: number, untilS: number): number[] {
    const spans = Array<number>(count).fill(0);
    const place = (n: number) => ((n / PEAKS_PER_S - this.startS) / (untilS - this.startS)) * count;
    for (const [n, peak] of this.#peaks) {
      for (let span = Math.max(0, Math.floor(place(n))); span < Math.min(place(n + 1), count); span++) spans[span] = Math.max(spans[span]!, peak);
    }
    return spans;
  }

  /** Write what is there as a WAV file. */
  wav(): Blob {
    const { startS } = this;
    return wavOf(this.rate, this.#parts.map((part) => ({ at: Math.round((part.startS - startS) * this.rate), buffer: part.buffer })));
  }

  async #decode({ media, startS }: Chunk): Promise<void> {
    try {
      const buffer = await new OfflineAudioContext(1, 1, this.rate).decodeAudioData(await bytesOf(media.url));
      const part = { startS: this.#place(startS), buffer };
      this.#parts.push(part);
      this.#measure(part);
      kept.add(this);
      for (const sound of kept) sound.#makeRoom();
    } catch (error) {
      this.failure = `The chunk at ${startS.toFixed(1)} s cannot be played: ${(error as Error).message}`;
    }
    this.#undecoded--;
    for (const listener of this.#listeners) listener();
  }

  /** Let go of the beginning, for as long as there is too much. */
  #makeRoom(): void {
    while (this.#parts.length && keptS() > MOST_S) this.#forget(this.#parts.shift()!);
    if (this.#parts.length) return;
    kept.delete(this);
    this.failure = "It made room for later ones: the page keeps ten minutes of sound.";
  }

  #forget({ startS, buffer }: Part): void {
    const end = (startS + buffer.duration) * PEAKS_PER_S;
    for (let n = Math.floor(startS * PEAKS_PER_S); n < end; n++) this.#peaks.delete(n);
  }

  /** Return where a chunk begins, to the frame: where the one before has ended, if the app has told it roughly. */
  #place(startS: number): number {
    const isNext = this.#parts.length > 0 && Math.abs(startS - this.endS) < ROUGH_S;
    return Math.round((isNext ? this.endS : startS) * this.rate) / this.rate;
  }

  #measure({ startS, buffer }: Part): void {
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const frames = buffer.getChannelData(channel);
      for (let n = 0; n < frames.length; n += 8) {
        const at = Math.floor((startS + n / buffer.sampleRate) * PEAKS_PER_S);
        this.#peaks.set(at, Math.max(this.#peaks.get(at) ?? 0, Math.abs(frames[n]!)));
      }
    }
  }
}

function keptS(): number {
  return [...kept].reduce((sum, { startS, endS }) => sum + endS - startS, 0);
}
