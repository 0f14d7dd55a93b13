/** Tell what a payload holds: media, tables, voxels, meshes, text; the rest is JSON. */

import { stringifyJson } from "streamapp-client";

import { choicesOf } from "./choices";
import { type Grid, gridOf } from "./grid";

/** A file that an endpoint emitted: `url` is a data URI or a URL. */
export interface Media {
  url: string;
  content_type: string;
  file_name?: string;
  width?: number;
  height?: number;
  /** In bytes. */
  file_size?: number;
}

/** Cubes: places of their middles, their colours, 0 to 255 each, and how wide they are, 1 where nothing is said. */
export interface Voxels {
  positions: number[][];
  colors?: number[][];
  sizes?: number[];
  /** Which axis points upwards: y, if nothing is said. */
  up?: unknown;
}

/** A piece of a sound: it begins at `startS` of it, and has so many frames a second. */
export interface Chunk {
  media: Media;
  startS: number;
  rate: number | undefined;
}

type MediaKind = "image" | "audio" | "video" | "mesh" | "file" | "elsewhere";

/** One thing to be shown; a newer one of the same slot takes its place. */
export type Content =
  | {
      slot: string;
      kind: MediaKind;
      media: Media;
      /** It is all of a sound whose chunks have come, and which has a player. */
      isHeard?: boolean;
    }
  | { slot: string; kind: "voxels"; voxels: Voxels | Grid }
  | { slot: string; kind: "table"; rows: Record<string, unknown>[] };

const MESH = /^model\/|\.(glb|gltf|obj|stl|ply)$/i;
const DEPTH = 3;
const MOST_COMPARED = 200; // rows of a table

/** Find all that can be shown in a payload; slots are paths: "image", "images.2". */
export function contentsOf(payload: unknown, slot = "", depth = DEPTH, beside: unknown = undefined): Content[] {
  const content = contentOf(payload, slot, beside);
  if (content) return [content];
  if (typeof payload !== "object" || payload === null || depth === 0 || isNumbers(payload)) return [];
  const found = Object.entries(payload).flatMap(([key, value]) => contentsOf(value, slot ? `${slot}.${key}` : key, depth - 1, payload));
  return unique(found);
}

/** Return what a payload holds besides contents: what is shown of it in no other way. */
export function besides(payload: unknown, contents: Content[], slot = ""): unknown {
  if (contents.some((content) => content.slot === slot)) return undefined;
  if (typeof payload !== "object" || payload === null || Array.isArray(payload)) return payload;
  const parts = Object.entries(payload).map(([key, value]) => [key, besides(value, contents, slot ? `${slot}.${key}` : key)] as const);
  const others = parts.filter(([, value]) => value !== undefined);
  return others.length ? Object.fromEntries(others) : undefined;
}

function contentOf(value: any, slot: string, beside: unknown): Content | undefined {
  const inline = inlineMedia(value);
  if (inline) return { slot, kind: kindOf(inline), media: inline };
  if (isTable(value)) return { slot, kind: "table", rows: value };
  if (typeof value !== "object" || value === null) return undefined;
  if (typeof value.url === "string" && typeof value.content_type === "string") return { slot, kind: kindOf(value), media: value };
  if (isPlaces(value.positions)) return { slot, kind: "voxels", voxels: value };
  const name = slot.split(".").findLast((part) => !/^\d+$/.test(part)) ?? "";
  const grid = gridOf(value, name, beside);
  return grid && { slot, kind: "voxels", voxels: grid };
}

function isNumbers(value: unknown): boolean {
  return Array.isArray(value) && value.every((part) => typeof part === "number");
}

const DATA_URI = /^data:((?:image|audio|video)\/[\w.+-]+)[;,]/i;
// What the bytes of images and sounds begin with, in base64.
const BEGINNINGS: [RegExp, string][] = [
  [/^iVBORw0KGgo/, "image/png"], [/^\/9j\//, "image/jpeg"], [/^R0lGOD[dl]h/, "image/gif"], [/^UklGR.{6}XRUJQ/, "image/webp"],
  [/^UklGR.{6}XQVZF/, "audio/wav"], [/^SUQz/, "audio/mpeg"], [/^T2dnU/, "audio/ogg"], [/^ZkxhQ/, "audio/flac"],
];
const LEAST_BASE64 = 40; // a word may begin like the smallest image
const SAMPLE = 200;

/** Return what a text shows that is a data URI, or the bare base64 of an image or a sound, as handlers write it. */
export function inlineMedia(value: unknown): Media | undefined {
  if (typeof value !== "string" || value.length < LEAST_BASE64) return undefined;
  const beginning = value.slice(0, SAMPLE);
  const declared = DATA_URI.exec(beginning)?.[1];
  if (declared) return { url: value, content_type: declared.toLowerCase() };
  const type = BEGINNINGS.find(([pattern]) => pattern.test(beginning))?.[1];
  if (!type || !/^[\w+/\s]+=*\s*$/.test(beginning)) return undefined;
  return { url: `data:${type};base64,${value}`, content_type: type };
}

/** Return where in a sound the audio of an output is; undefined where it is no chunk of one. */
export function chunkOf(payload: any): Omit<Chunk, "media"> | undefined {
  const { start_s: startS, sample_rate: rate } = payload ?? {};
  if (typeof startS !== "number" || startS < 0) return undefined;
  return { startS, rate: typeof rate === "number" ? rate : undefined };
}

function kindOf({ url, content_type, file_name = "" }: Media): MediaKind {
  if (!isOwn(url)) return "elsewhere";
  if (MESH.test(content_type) || MESH.test(file_name)) return "mesh";
  const family = content_type.split("/")[0];
  return family === "image" || family === "audio" || family === "video" ? family : "file";
}

/** Say whether a file came with the event, or is on this server: the page asks no other for anything. */
export function isOwn(url: string): boolean {
  if (!URL.canParse(url, location.href)) return false;
  const { protocol, origin } = new URL(url, location.href);
  return protocol === "data:" || origin === location.origin;
}

/** Return the type of what a data URI holds; "" where it says none, or is none. */
export function typeIn(url: string): string {
  return /^data:([^;,]*)/i.exec(url)?.[1] ?? "";
}

/** Return a file's bytes; one that came with the event is read here, as the page's policy lets `fetch` have no data URI. */
export async function bytesOf(url: string): Promise<ArrayBuffer> {
  const inline = /^data:[^,]*?(;base64)?,/i.exec(url);
  if (!inline) return fetched(url);
  const body = url.slice(inline[0].length);
  const text = inline[1] ? atob(body) : decodeURIComponent(body);
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes.buffer;
}

async function fetched(url: string): Promise<ArrayBuffer> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the server no longer has it (${response.status})`);
  return response.arrayBuffer();
}

function isPlaces(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && Array.isArray(value[0]) && value[0].length === 3;
}

function isTable(value: unknown): value is Record<string, unknown>[] {
  return Array.isArray(value) && value.length > 0 && value.every(isRow);
}

function isRow(value: any): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const isCell = (cell: unknown) => (typeof cell !== "object" || cell === null) && !inlineMedia(cell);
  return typeof value.url !== "string" && Object.values(value).every(isCell);
}

/** Return the first image of contents. */
export function imageIn(contents: Iterable<Content>): Media | undefined {
  for (const content of contents) if (content.kind === "image") return content.media;
  return undefined;
}

/**
 * Drop what comes twice: `image` is often the first of `images`, and a table of a step stands in the whole result, too.
 *
 * Of one list each counts: several may look alike.
 */
export function unique(contents: Content[]): Content[] {
  return contents.filter((content, index) => !contents.some((other, n) => n > index && isSame(content, other) && !isOfOneList(content, other)));
}

function isOfOneList({ slot }: Content, other: Content): boolean {
  const [list, otherList] = [slot, other.slot].map((each) => /^(.*?)\d+$/.exec(each)?.[1]);
  return list !== undefined && list === otherList && slot !== other.slot;
}

function isSame(one: Content, other: Content): boolean {
  if ("media" in one) return "media" in other && other.media.url === one.media.url;
  if (one.kind !== "table" || other.kind !== "table" || one.rows.length !== other.rows.length) return false;
  return one.rows === other.rows || (one.rows.length <= MOST_COMPARED && stringifyJson(one.rows) === stringifyJson(other.rows));
}

const TEXT_KEYS = ["token", "text", "delta"] as const;
// What language models say besides.
const TOKEN_KEYS = new Set<string>([
  ...TEXT_KEYS, "token_id", "index", "generated_tokens", "is_complete", "logprob", "own_text", "top_logprobs", "finish_reason", "tool_calls", "usage",
]);

/** A piece of a text, or all of it; where that is not said, a piece that equals what came so far is. */
export interface Piece {
  text: string;
  kind: string;
  isWhole?: boolean | undefined;
}

/** Return the piece of text that a payload is, and what kind of piece: chunks of one text are of one kind. */
export function textOf(payload: any): Piece | undefined {
  if (typeof payload === "string") return inlineMedia(payload) ? undefined : { text: payload, kind: "" };
  const choices = payload?.choices || payload?.role ? choicesOf(payload) : undefined;
  if (choices) return { text: choices.find(({ index }) => index === 0)?.text ?? "", kind: "choice", isWhole: choices[0]?.isWhole };
  const key = TEXT_KEYS.find((name) => typeof payload?.[name] === "string");
  if (!key) return undefined;
  const { [key]: text, text: whole, index, finish_reason: reason } = payload;
  const keys = Object.keys(payload);
  if (!keys.every((name) => TOKEN_KEYS.has(name))) return keys.length <= 2 ? { text, kind: key } : undefined;
  const kind = index ? `${key} ${index}` : key; // one of several choices
  if (reason && typeof whole === "string") return { text: whole, kind, isWhole: true };
  return keys.length > 1 ? { text, kind, isWhole: false } : { text, kind };
}

const FEW = 32;

/** A list of numbers, of which some tell how long all are. */
function isLong(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > FEW && typeof value[0] === "number" && typeof value.at(-1) === "number";
}

/** Estimate the bytes of a value's JSON without making it. */
export function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length + 2;
  if (typeof value !== "object" || value === null) return String(value).length;
  if (isLong(value)) return 2 + (sizeOf(value.slice(0, FEW)) * value.length) / FEW;
  if (Array.isArray(value)) return value.reduce<number>((sum, item) => sum + sizeOf(item) + 1, 2);
  return Object.entries(value).reduce((sum, [key, item]) => sum + key.length + sizeOf(item) + 4, 1);
}
