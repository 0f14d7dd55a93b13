/** Write JSON values in other languages. */

import { stringifyJson } from "streamapp-client";

import { inlineMedia } from "../runs/content";
import { isRecord } from "../runs/schema";

const WIDE = 64; // what stands in one line
const BRIEF = 5; // of base64

interface Dialect {
  indent: string;
  words: Record<string, string>;
  large: (integer: bigint) => string;
}

const PYTHON: Dialect = { indent: "    ", words: { null: "None", true: "True", false: "False" }, large: String };
const JAVASCRIPT: Dialect = { indent: "  ", words: {}, large: (integer) => `${integer}n` };

/** Write a JSON value in Python; `line` is what begins the line that it stands in. */
export function pythonLiteral(value: unknown, line = "\n"): string {
  return literal(value, PYTHON, line);
}

/** Write a JSON value in JavaScript, which is JSON but for its BigInts. */
export function javascriptLiteral(value: unknown): string {
  return literal(value, JAVASCRIPT, "\n");
}

/** Write a call in Python whose arguments have names. */
export function pythonCall(name: string, given: Record<string, unknown>, line = "\n"): string {
  const inner = line + PYTHON.indent;
  return `${name}(${Object.entries(given).map(([key, value]) => `${inner}${key}=${pythonLiteral(value, inner)},`).join("")}${line})`;
}

function literal(value: unknown, dialect: Dialect, line: string): string {
  if (typeof value === "bigint") return dialect.large(value);
  if (typeof value !== "object" || value === null) {
    const text = stringifyJson(value ?? null);
    return dialect.words[text] ?? text;
  }
  const inner = line + dialect.indent;
  const isList = Array.isArray(value);
  const parts = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .map(([key, item]) => (isList ? "" : `${JSON.stringify(key)}: `) + literal(item, dialect, inner));
  const [open, close] = isList ? "[]" : "{}";
  const short = open + parts.join(", ") + close;
  return short.length <= WIDE && !short.includes("\n") ? short : open + parts.map((part) => `${inner}${part},`).join("") + line + close;
}

/** Say whether there is an integer beyond 2^53 in a value. */
export function isLarge(value: unknown): boolean {
  if (typeof value === "bigint") return true;
  return typeof value === "object" && value !== null && Object.values(value).some(isLarge);
}

/** Leave out most of the bytes of files that are written into a value. */
export function shortened(value: unknown): unknown {
  if (typeof value === "string") return shortText(value);
  if (Array.isArray(value)) return value.map(shortened);
  return isRecord(value) ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shortened(item)])) : value;
}

function shortText(text: string): string {
  const head = /^data:[^,]{0,200}?;base64,/.exec(text)?.[0] ?? (inlineMedia(text) ? "" : undefined);
  return head === undefined || text.length <= head.length + WIDE ? text : `${text.slice(0, head.length + BRIEF)}…`;
}
