/** Hand inputs to one session, and out what comes of them. */

import type { Dialogue } from "./dialogue.js";
import { Stream } from "./stream.js";

/**
 * A job that takes inputs while it runs, and its events; leaving early cancels it.
 *
 * Its events are read as those of any stream. They come at the reader's pace, so a session wants a reader: a loop,
 * `on` or `done`. What is wrong with one input is an event, "input_error", and the session goes on.
 */
export class Session<Input = any, Output = any> extends Stream<Output, Output> {
  /** The images of a session by WebRTC, for a <video>'s `srcObject`: the same however often it is resumed. Else null. */
  readonly video: MediaStream | null;
  #dialogue: Dialogue;

  /** @internal */
  constructor(dialogue: Dialogue, leave: (reason?: unknown) => Promise<void>, video: MediaStream | null) {
    super(dialogue, leave);
    this.video = video;
    this.#dialogue = dialogue;
  }

  /**
   * Send an input, as it is now, behind those before it; Blobs, Files and bytes in it become data URIs.
   *
   * Resolves with its number, by which an "input_error" names it, when it was written; that waits while the server is 64
   * inputs behind, or the network a MiB. With `newest` also when it was replaced, and without a number. Rejects when the
   * session is over. It need not be awaited.
   */
  send(input: Input): Promise<number | undefined> {
    const sent = this.#dialogue.send(input);
    sent.catch(() => {}); // who does not ask has what ended the session from the loop, or from done()
    return sent;
  }

  /** Say that no more inputs come; what comes of those before is still read. */
  finish(): void {
    this.#dialogue.finish();
  }
}
