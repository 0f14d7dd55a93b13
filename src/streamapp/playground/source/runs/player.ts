/** Play sounds that come in chunks without a gap between these. */

import { gainNow, hear, isQuiet, onVolume, type Voice } from "./heard";
import type { Part, Sound } from "./sound";

// How long behind now a sound begins, and goes on where it had to wait for a chunk.
const LEAD_S = 0.1;
const MOST_LEAD_S = 2; // each wait doubles it: what comes unevenly stutters a few times, not at each chunk
const AHEAD_S = 5; // that is given to the browser; what is behind that follows when a chunk has been played

/** Play a sound, also while it comes. */
export class Player implements Voice {
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
    this.#leave = [sound.subscribe(() => this.#more()), onVolume(() => this.#setGain())];
  }

  /** Whether it can be heard now, or would be if more had come. */
  get isPlaying(): boolean {
    return this.#isOn && this.#context?.state === "running";
  }

  get paused(): boolean {
    return !this.isPlaying;
  }

  /** Whether all has been played that has come. */
  get isDry(): boolean {
    return this.isPlaying && this.#timeS >= this.#sound.endS;
  }

  get positionS(): number {
    return Math.min(Math.max(this.#timeS, this.#fromS ?? this.#sound.startS), this.#sound.endS); // it begins in a moment
  }

  /** Play on, or from the beginning where it has ended; a browser may want a click for it. */
  play(): void {
    hear(this);
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
    if (!this.#sound.isBegun && isQuiet()) this.play();
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
    this.#gain = new GainNode(this.#context, { gain: gainNow() });
    this.#gain.connect(this.#context.destination);
    if (this.#fromS !== undefined) this.#beginAt(this.#fromS, LEAD_S);
  }

  #setGain(): void {
    if (this.#gain) this.#gain.gain.value = gainNow();
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
