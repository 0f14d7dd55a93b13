/** Write and read JSON with integers of any size: those that no number can hold exactly are BigInts. */

// Where an integer beyond 2^53 may begin; looking for one takes a quarter of the time of `JSON.parse`.
const LONG_INTEGER = /(?:^|[[:,\s-])\d{16}/;
const INTEGER = /^-?\d+$/;
const ATOM = /[^\s,\]}]+/y;

/** Write a value as `JSON.stringify` does, and BigInts, wherever they are, as integers; `indent` is in spaces. */
export function stringifyJson(value: unknown, indent = 0): string {
  return write(value, "", " ".repeat(indent), indent ? "\n" : "") as string;
}

/** `line` is what begins the line of the value. */
function write(value: any, key: string, indent: string, line: string): string | undefined {
  // Some define BigInt.prototype.toJSON, by which they would become strings.
  if (typeof value !== "bigint" && typeof value?.toJSON === "function") value = value.toJSON(key);
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const inner = line + indent;
  const isList = Array.isArray(value);
  const parts = isList
    ? Array.from(value, (item, n) => write(item, String(n), indent, inner) ?? "null")
    : Object.entries(value).flatMap(([name, item]) => {
        const text = write(item, name, indent, inner);
        return text === undefined ? [] : `${JSON.stringify(name)}:${indent && " "}${text}`;
      });
  const all = parts.length ? inner + parts.join(`,${inner}`) + line : "";
  return isList ? `[${all}]` : `{${all}}`;
}

/** Read JSON as `JSON.parse` does, and integers beyond `Number.MAX_SAFE_INTEGER` as BigInts. */
export function parseJson(text: string): any {
  const value = JSON.parse(text);
  return LONG_INTEGER.test(text) ? readExactly(text) : value;
}

/** Read a text that is known to be JSON: not every engine's `JSON.parse` lets a reviver see the digits. */
function readExactly(text: string): any {
  let at = 0;
  const look = () => {
    while (" \t\r\n,:".includes(text[at]!)) at++;
    return text[at];
  };
  const cut = (end: number) => text.slice(at, (at = end));
  const readString = () => {
    let end = at;
    do end = text.indexOf('"', end + 1);
    while (isEscaped(text, end));
    return JSON.parse(cut(end + 1));
  };
  const readParts = <Part>(end: string, read: () => Part) => {
    const parts: Part[] = [];
    for (at++; look() !== end; ) parts.push(read());
    at++;
    return parts;
  };
  const read = (): any => {
    const first = look();
    if (first === '"') return readString();
    if (first === "[") return readParts("]", read);
    if (first === "{") return Object.fromEntries(readParts("}", () => [readString(), read()]));
    ATOM.lastIndex = at;
    ATOM.test(text);
    const atom = cut(ATOM.lastIndex);
    return INTEGER.test(atom) && !Number.isSafeInteger(Number(atom)) ? BigInt(atom) : JSON.parse(atom);
  };
  return read();
}

function isEscaped(text: string, at: number): boolean {
  let start = at;
  while (text[start - 1] === "\\") start--;
  return (at - start) % 2 === 1;
}
