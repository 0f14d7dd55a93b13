/**
 * Be a WebSocket to a session, made of a peer connection: frames over a data channel, the session's images as video.
 *
 * A message of a data channel holds 64 KiB in some engines, so a frame goes in pieces, each behind a mark: "+" where more
 * of it follows, "." before the last one. Both sides gather their addresses first: signalling is one request.
 */

import { Connection, decodeJson, JSON_TYPE } from "./connection.js";
import type { Manners } from "./conversation.js";
import { after, throwIfAborted } from "./deadline.js";
import { StreamappError } from "./errors.js";
import { PROTOCOL } from "./socket.js";

const CONNECT_MS = 15_000;
// Behind a STUN or TURN server that does not answer it would take longer than all else.
const GATHER_MS = 3000;
// The last word may still be on its way, and the last image come behind what it belongs to; and browsers show a closed
// connection as black, which a short cut need not.
const LINGER_MS = 1000;
// In code points, of which each takes 4 bytes at most: none is cut in two.
const PIECES = /[^]{1,16000}/gu;
// Chromium closes a channel in which 16 MiB lie.
const MOST_BUFFERED_BYTES = 2 ** 18;
const BY_SOCKET = "without { webrtc: true } the session goes by WebSocket";
const LOST: ReadonlySet<string> = new Set(["disconnected", "failed", "closed"]);

/** Connect at once; has of a WebSocket what `listen`, `hangUp` and an `Outbox` ask of one. */
export class Peer {
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((end: { error: unknown }) => void) | null = null;

  #url: string;
  #manners: Manners;
  #isResume: boolean;
  #isOpen = false;
  #connection: RTCPeerConnection | undefined;
  #channel: RTCDataChannel | undefined;
  #over = new AbortController();
  #timer = after(CONNECT_MS, () => this.#end(this.#unreachable("none came about within 15 s")));
  #pieces: string[] = [];
  #received = "";

  /** `show` is called with the track of the images; `isResume`: what fails may be tried again. */
  constructor(url: string, manners: Manners, show: (track: MediaStreamTrack) => void, isResume: boolean) {
    this.#url = url.replace(/\/*(?=\?|$)/, "/webrtc");
    this.#manners = manners;
    this.#isResume = isResume;
    this.#connect(show).catch((error) => this.#end(error instanceof StreamappError ? error : this.#unreachable(error)));
  }

  get readyState(): number {
    return this.#channel?.readyState === "open" ? 1 : 0;
  }

  get bufferedAmount(): number {
    return this.#pieces.reduce((sum, piece) => sum + piece.length, this.#channel?.bufferedAmount ?? 0);
  }

  send(text: string): void {
    const pieces = text.match(PIECES)!;
    const last = pieces.pop();
    this.#pieces.push(...pieces.map((piece) => `+${piece}`), `.${last}`);
    this.#write();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#over.abort();
    if (this.#connection) after(LINGER_MS, () => this.#connection!.close());
  }

  async #connect(show: (track: MediaStreamTrack) => void): Promise<void> {
    if (!globalThis.RTCPeerConnection) throw this.#unreachable("it takes a page in a browser");
    const { ice_servers } = await this.#ask("GET");
    const connection = (this.#connection = new RTCPeerConnection({ iceServers: ice_servers }));
    const { track } = connection.addTransceiver("video", { direction: "recvonly" }).receiver;
    const channel = (this.#channel = connection.createDataChannel(PROTOCOL));
    channel.bufferedAmountLowThreshold = MOST_BUFFERED_BYTES / 2;
    channel.onbufferedamountlow = () => this.#write();
    channel.onmessage = ({ data }) => this.#take(data);
    channel.onclose = () => this.#end(this.#lost("its channel was closed"));
    channel.onopen = () => {
      clearTimeout(this.#timer);
      this.#isOpen = true;
      show(track);
      this.onopen?.();
    };
    connection.onconnectionstatechange = () => {
      const { connectionState: state } = connection;
      if (LOST.has(state)) this.#end(this.#lost(`it is ${state}`));
    };
    // Of a page that closes the server would hear by silence, half a minute later.
    globalThis.addEventListener?.("pagehide", () => {
      connection.close();
      this.#end(this.#lost("the page was left"));
    }, { signal: this.#over.signal });
    await connection.setLocalDescription();
    await gathered(connection);
    await connection.setRemoteDescription(await this.#ask("POST", JSON.stringify(connection.localDescription)));
  }

  /** Ask the server, and return the JSON of its answer. */
  async #ask(method: "GET" | "POST", body?: string): Promise<any> {
    const headers = { ...this.#manners.headers, Accept: JSON_TYPE, ...(body && { "Content-Type": JSON_TYPE }) };
    const request = { method, url: this.#url, headers, ...(body && { body }) };
    const answer = await Connection.open(request, this.#over.signal, [JSON_TYPE], this.#manners).catch((error) => {
      throw error.status === 404 ? notServed(this.#url) : error;
    });
    const text = await answer.text();
    throwIfAborted(this.#over.signal);
    return decodeJson(text, `the answer of ${this.#url}`, this.#manners.parse);
  }

  #take(data: string): void {
    this.#received += data.slice(1);
    if (data[0] === "+") return;
    const text = this.#received;
    this.#received = "";
    this.onmessage?.({ data: text });
  }

  #write(): void {
    const channel = this.#channel!;
    while (this.#pieces.length && this.readyState && channel.bufferedAmount < MOST_BUFFERED_BYTES) channel.send(this.#pieces.shift()!);
  }

  #end(error: unknown): void {
    if (this.#over.signal.aborted) return;
    this.close();
    this.onclose?.({ error });
  }

  #lost(why: string): StreamappError {
    if (!this.#isOpen) return this.#unreachable(why);
    return new StreamappError("connection_failed", `The connection by WebRTC was lost: ${why}`);
  }

  #unreachable(cause: any): StreamappError {
    const message = `No connection by WebRTC to ${this.#url}: ${cause.message ?? cause}; ${BY_SOCKET}`;
    return new StreamappError("connection_failed", message, { retryable: this.#isResume, cause });
  }
}

function notServed(url: string): StreamappError {
  const message = `There is no session by WebRTC at ${url}: is the method marked webrtc=True? ${BY_SOCKET}`;
  return new StreamappError("not_found", message, { status: 404 });
}

/** Wait until a connection knows its own addresses, as long as it is worth. */
function gathered(connection: RTCPeerConnection): Promise<void> {
  return new Promise((resolve) => {
    const timer = after(GATHER_MS, resolve);
    const look = () => {
      if (connection.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    };
    connection.onicegatheringstatechange = look;
    look();
  });
}
