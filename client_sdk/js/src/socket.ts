/** Listen to one WebSocket, which may not fall silent; knows nothing of what is said. */

import { after, reasonOf } from "./deadline.js";
import { type ErrorCode, StreamappError } from "./errors.js";

/** What opens a socket: the engine's own `WebSocket`, or a package's. */
export type SocketMaker = new (url: string, protocol: string) => any;

/** Who listens. */
export interface Listener {
  open(): void;
  /** Take a message, and say whether it was the last; what it throws ends the listening. */
  take(text: string): boolean;
}

/** What is spoken over it. */
export const PROTOCOL = "streamapp.v1";

const OPEN = 1;
// By what a socket was closed that would close the next one, too, besides the server's own codes: RFC 6455, 7.4.
const FINAL: ReadonlySet<number> = new Set([1002, 1003, 1007, 1008, 1009, 1010]);
const LEAST_OWN = 3000;
const BY_CLOSE: Record<number, ErrorCode> = {
  1008: "unauthorized",
  1009: "payload_too_large",
  4400: "malformed_request",
  4401: "unauthorized",
  4404: "job_not_found",
};

/** Rejected with where no socket was opened: why, engines do not tell. */
export const NEVER_OPENED = new Error("no socket was opened");

/** Resolve with the last message; reject with what has ended it before, and with the reason of the signal. */
export async function listen(socket: any, silenceMs: number, signal: AbortSignal, listener: Listener): Promise<void> {
  let abort!: () => void;
  let timer: ReturnType<typeof setTimeout>;
  try {
    await new Promise<void>((resolve, reject) => {
      const wait = () => {
        clearTimeout(timer);
        timer = after(silenceMs, () => reject(new StreamappError("connection_failed", "no heartbeat came")));
      };
      let isOpen = false;
      let said = "";
      signal.addEventListener("abort", (abort = () => reject(reasonOf(signal))));
      socket.onopen = () => {
        isOpen = true;
        listener.open();
      };
      socket.onmessage = ({ data }: { data: unknown }) => {
        wait();
        try {
          if (typeof data === "string" && listener.take(data)) resolve();
        } catch (error) {
          socket.onmessage = null; // engines hand out at once what has come at once
          reject(error);
        }
      };
      socket.onclose = ({ code, reason, error }: { code: number; reason: string; error?: unknown }) =>
        reject(error ?? (isOpen ? closed(code, reason || said) : NEVER_OPENED));
      // In Node 20 all that is heard of a socket that never opened; of others it is what engines may tell of code 1006.
      socket.onerror = ({ message = "" }) => {
        said = message;
        if (!isOpen) reject(NEVER_OPENED);
      };
      wait();
    });
  } finally {
    clearTimeout(timer!);
    signal.removeEventListener("abort", abort);
    socket.onopen = socket.onmessage = socket.onclose = null;
  }
}

/** Hang up; say a last word where somebody hears it. */
export function hangUp(socket: any, word?: string): void {
  if (word && socket.readyState === OPEN) socket.send(word);
  socket.close();
}

/** Return what a socket's closing means. */
export function closed(code: number, reason: string): StreamappError {
  const isFinal = code >= LEAST_OWN || FINAL.has(code);
  const message = `The socket was closed with ${code}${reason && `: ${reason}`}`;
  return new StreamappError(isFinal ? (BY_CLOSE[code] ?? "stream_interrupted") : "connection_failed", message, { retryable: !isFinal });
}
