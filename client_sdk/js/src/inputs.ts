/** Turn an endpoint's input into JSON: Blobs, Files and bytes anywhere in it become data URIs, BigInts integers; a form is sent as one. */

import { JSON_TYPE } from "./connection.js";
import { stringifyJson } from "./json.js";

// Divisible by 3: the base64 of one part has no padding, and parts can be joined.
const PART_BYTES = 0x6000;

/** What is sent of an input: JSON, or a form. */
export type Body = string | FormData;

/** Return what is sent of an input; a form goes as it is, and so can bring what an endpoint takes as an upload. */
export async function bodyOf(input: unknown): Promise<Body> {
  return globalThis.FormData && input instanceof FormData ? input : encodeInput(input);
}

/** Return the headers that a body needs; of a form `fetch` writes them, as only it knows where its parts end. */
export function headersOf(body: Body): Record<string, string> {
  return typeof body === "string" ? { "Content-Type": JSON_TYPE } : {};
}

/** Return the JSON of an input; an endpoint whose arguments all have defaults still reads an object. */
export async function encodeInput(input: unknown): Promise<string> {
  const text: string | undefined = stringifyJson((await encode(input)) ?? {});
  if (text === undefined) throw new TypeError(`Expected what JSON holds, BigInts, Blobs, Files or bytes, got a ${typeof input}`);
  return text;
}

async function encode(value: any): Promise<unknown> {
  if (value instanceof Blob) {
    return value.arrayBuffer ? dataUri(new Uint8Array(await value.arrayBuffer()), value.type) : readDataUri(value);
  }
  if (value instanceof ArrayBuffer) return dataUri(new Uint8Array(value));
  if (ArrayBuffer.isView(value)) return dataUri(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if (Array.isArray(value)) return Promise.all(value.map(encode));
  if (typeof value !== "object" || value === null || value.toJSON) return value;
  const entries = Object.entries(value).map(async ([key, item]) => [key, await encode(item)] as const);
  return Object.fromEntries(await Promise.all(entries));
}

/** Read a Blob of React Native's, which gives its bytes in no other way. */
function readDataUri(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function dataUri(bytes: Uint8Array, mediaType?: string): string {
  const parts: string[] = [];
  for (let start = 0; start < bytes.length; start += PART_BYTES) {
    parts.push(btoa(String.fromCharCode(...bytes.subarray(start, start + PART_BYTES))));
  }
  return `data:${mediaType || "application/octet-stream"};base64,${parts.join("")}`;
}
