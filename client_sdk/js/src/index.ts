/**
 * Call a streamapp server: events as they arrive, resumed when the connection is lost, errors with their codes.
 *
 *     const stream = await new Client("http://127.0.0.1:8000").stream("/stream", { input: { prompt: "a red circle" } });
 *     for await (const event of stream) console.log(event.name, event.data);
 */

export { type CallOptions, Client, type ClientOptions, type ConnectOptions, type StreamOptions, type SubscribeOptions } from "./client.js";
export type { StreamEvent } from "./conversation.js";
export type { Limits } from "./deadline.js";
export { type ServerSentEvent, SSEDecoder } from "./decoder.js";
export { type ErrorCode, StreamappError } from "./errors.js";
export type { JobHandle } from "./job.js";
export { parseJson, stringifyJson } from "./json.js";
export type { JobStatus } from "./server.js";
export type { Session } from "./session.js";
export type { Stream } from "./stream.js";
