/** Sounds that come in chunks: decoded as they come, and played without a gap between them. */

import { bytesOf, type Chunk } from "./content";

/** A chunk that can be played. */
interface Part {
  startS: number;
  buffer: AudioBuffer;
}

const USUAL_RATE = 48_000;
const RATES = [8_000, 96_000] as const; // that each browser has: https://webaudio.github.io/web-audio-api/#sample-rates
const MOST_S = 600; // that are kept decoded, of all sounds of the visit: a minute may take 15 MB
const ROUGH_S = 0.06; // by how much an app may be wrong about where a chunk begins
const PEAKS_PER_S = 25;
// How long behind now a sound begins, and goes on where it had to wait for a chunk.
const LEAD_S = 0.1;
const MOST_LEAD_S = 2; // each wait doubles it: what comes unevenly stutters a few times, not at each chunk
const AHEAD_S = 5; // that is given to the browser; what is behind that follows when a chunk has been played

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

// How loud players are; it stays when another sound comes.
const volume = { level: 1, isMuted: false };
let heard: Player | undefined; // one at a time

/** Play a sound, also while it comes. */
export class Player {
  #sound: Sound;
  #context: AudioContext | undefined;
  #gain: GainNode | undefined;
  #nodes = new Set<AudioBufferSourceNode>();
  /** The context's time at which the sound's second 0 was, or would have been. */
  #zero = Number.NEGATIVE_INFINITY;
  /** The sound's second from which it is played. */
  #fromS: number | undefined;
  #last: Part | undefined; // that was given to the browser
  #leadS = LEAD_S;
  #isOn = false;
  #onChange: () => void;
  #leave: (() => void)[];

  /** `onChange` is called when something other than the position has changed. */
  constructor(sound: Sound, onChange: () => void) {
    this.#sound = sound;
    this.#fromS = sound.leftS;
    this.#onChange = onChange;
    const makeWay = ({ target }: Event) => target instanceof HTMLAudioElement && this.pause();
    document.addEventListener("play", makeWay, true);
    this.#leave = [() => document.removeEventListener("play", makeWay, true), sound.subscribe(() => this.#more())];
  }

  /** Whether it can be heard now, or would be if more had come. */
  get isPlaying(): boolean {
    return this.#isOn && this.#context?.state === "running";
  }

  /** Whether all has been played that has come. */
  get isDry(): boolean {
    return this.isPlaying && this.#timeS >= this.#sound.endS;
  }

  get positionS(): number {
    return Math.min(Math.max(this.#timeS, this.#fromS ?? this.#sound.startS), this.#sound.endS); // it begins in a moment
  }

  get level(): number {
    return volume.level;
  }

  get isMuted(): boolean {
    return volume.isMuted;
  }

  /** Play on, or from the beginning where it has ended; a browser may want a click for it. */
  play(): void {
    if (heard !== this) heard?.pause();
    heard = this;
    for (const other of document.querySelectorAll("audio")) other.pause();
    this.#isOn = true;
    if (!this.#context) this.#open();
    this.#context!.resume();
    if (this.#sound.isWhole && this.#timeS >= this.#sound.endS) this.seek(this.#sound.startS);
    this.#more();
  }

  /** Stop where it is. */
  pause(): void {
    this.#isOn = false;
    this.#context?.suspend();
    this.#onChange();
  }

  /** Begin itself, unless something else is heard. */
  begin(): void {
    if (!this.#sound.isBegun && !heard?.isPlaying) this.play();
    this.#sound.isBegun = true;
  }

  /** Go to a time, as far as the sound has come. */
  seek(timeS: number): void {
    this.#fromS = Math.min(Math.max(timeS, this.#sound.startS), this.#sound.endS);
    this.#last = undefined;
    for (const node of this.#nodes) node.stop();
    this.#nodes.clear();
    if (this.#context) this.#beginAt(this.#fromS, LEAD_S);
    this.#more();
  }

  /** Set how loud it is, and all others. */
  adjust(change: Partial<typeof volume>): void {
    Object.assign(volume, change);
    if (this.#gain) this.#gain.gain.value = volume.isMuted ? 0 : volume.level;
    this.#onChange();
  }

  /** Fall silent for good. */
  close(): void {
    this.#isOn = false;
    this.#sound.leftS = this.positionS;
    for (const leave of this.#leave) leave();
    this.#context?.close();
    this.#context = undefined;
  }

  get #timeS(): number {
    return this.#context && this.#fromS !== undefined ? this.#context.currentTime - this.#zero : (this.#fromS ?? this.#sound.startS);
  }

  #open(): void {
    this.#context = new AudioContext({ sampleRate: this.#sound.rate, latencyHint: "playback" });
    this.#context.onstatechange = this.#onChange;
    this.#gain = new GainNode(this.#context, { gain: volume.isMuted ? 0 : volume.level });
    this.#gain.connect(this.#context.destination);
    if (this.#fromS !== undefined) this.#beginAt(this.#fromS, LEAD_S);
  }

  /** Have a second of the sound be heard in a moment, on a frame of the context. */
  #beginAt(timeS: number, leadS: number): void {
    const { currentTime, sampleRate } = this.#context!;
    this.#zero = Math.ceil((currentTime + leadS - timeS) * sampleRate) / sampleRate;
  }

  /** Begin, or go on with a chunk that came late. */
  #beginLate(timeS: number): void {
    this.#beginAt(timeS, this.#leadS);
    this.#leadS = Math.min(2 * this.#leadS, MOST_LEAD_S);
  }

  /** Give the browser what it has to play next. */
  #more(): void {
    if (this.#context) this.#giveTo(this.#context);
    this.#onChange();
  }

  #giveTo(context: AudioContext): void {
    const next = () => (this.#last ? this.#sound.behind(this.#last) : this.#sound.at(this.#fromS ?? 0));
    for (let part = next(); part && !(this.#zero + part.startS > context.currentTime + AHEAD_S); part = next()) {
      this.#fromS ??= part.startS;
      this.#give(context, part, Math.max(part.startS, this.#fromS));
      this.#last = part;
    }
  }

  #give(context: AudioContext, { startS, buffer }: Part, fromS: number): void {
    if (this.#zero + fromS < context.currentTime) this.#beginLate(fromS);
    const node = new AudioBufferSourceNode(context, { buffer });
    node.connect(this.#gain!);
    node.onended = () => this.#nodes.delete(node) && this.#more();
    node.start(this.#zero + fromS, fromS - startS);
    this.#nodes.add(node);
  }
}
