/** Who is heard, one at a time, and how loud: all sounds and films of the page keep to it. */

/** What can be heard; a media element is one as it is. */
export interface Voice {
  readonly paused: boolean;
  pause(): void;
}

/** How loud all of them are, from 0 to 1. */
export interface Volume {
  level: number;
  isMuted: boolean;
}

let heard: Voice | undefined;
let volume: Volume = { level: 1, isMuted: false };
const listeners = new Set<() => void>();

/** Let one be heard, and no other. */
export function hear(voice: Voice): void {
  if (heard !== voice) heard?.pause();
  heard = voice;
}

/** Whether nothing is heard. */
export function isQuiet(): boolean {
  return heard === undefined || heard.paused;
}

/** Return how loud it is now; it stays when another sound comes. */
export function volumeNow(): Volume {
  return volume;
}

/** Set how loud everything is. */
export function setVolume(change: Partial<Volume>): void {
  volume = { ...volume, ...change };
  for (const listener of listeners) listener();
}

/** Call a function when the volume is another; returns what stops that. */
export function onVolume(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Return the factor by which what is played is to be made less loud. */
export function gainNow(): number {
  return volume.isMuted ? 0 : volume.level;
}
