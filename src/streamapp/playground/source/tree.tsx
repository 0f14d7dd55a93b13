/** Show JSON that folds; what is folded costs nothing. */

import { type ReactNode, useState } from "react";
import { stringifyJson } from "streamapp-client";

import { inlineMedia, readable, sizeOf } from "./content";

const PAGE = 100;
const LONG = 1000;
const BRIEF = 60; // of what is shown as a picture beside
const OPEN_BYTES = 1000;
const LINE_BYTES = 60;

interface TreeProps {
  value: unknown;
  name: string;
  isOpen?: boolean;
}

/** One value, and below it, when open, its parts; small values begin open, tiny ones stand in their line. */
export function Tree({ value, name, isOpen = false }: TreeProps) {
  const [isShown, setShown] = useState(isOpen);
  const isLine = !isOpen && sizeOf(value) < LINE_BYTES;
  if (typeof value !== "object" || value === null || isLine) return <Leaf value={value} name={name} />;
  const count = Array.isArray(value) ? value.length : Object.keys(value).length;
  const brief = Array.isArray(value) ? `[${count}]` : `{${count}}`;
  return (
    <details open={isShown} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary><Key name={name} /> <span className="brief">{brief}</span></summary>
      {isShown && <Parts value={value} />}
    </details>
  );
}

function Key({ name }: { name: string }): ReactNode {
  return <span className="key">{name}:</span>;
}

function Parts({ value }: { value: object }) {
  const [most, setMost] = useState(PAGE);
  const entries = Object.entries(value);
  return (
    <div className="parts">
      {entries.slice(0, most).map(([key, part]) => (
        <Tree key={key} name={Array.isArray(value) ? key : JSON.stringify(key)} value={part} isOpen={isSmall(part)} />
      ))}
      {entries.length > most && (
        <button type="button" onClick={() => setMost(most + 10 * PAGE)}>{entries.length - most} more</button>
      )}
    </div>
  );
}

function isSmall(value: unknown): boolean {
  const bytes = sizeOf(value);
  return LINE_BYTES <= bytes && bytes < OPEN_BYTES;
}

function Leaf({ value, name }: { value: unknown; name: string }) {
  const [isWhole, setWhole] = useState(false);
  const text = stringifyJson(value) ?? "null";
  const most = inlineMedia(value) ? BRIEF : LONG;
  const isLong = text.length > most && !isWhole;
  return (
    <div className="leaf">
      <Key name={name} />{" "}
      <span className={value === null ? "null" : typeof value}>{isLong ? text.slice(0, most) : text}</span>
      {isLong && <button type="button" onClick={() => setWhole(true)}>… show all of {readable(text.length)}</button>}
    </div>
  );
}
