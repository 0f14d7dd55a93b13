/** Show JSON that folds; what is folded costs nothing. */

import { createContext, type ReactNode, useContext, useState } from "react";
import { stringifyJson } from "streamapp-client";

import { inlineMedia, sizeOf } from "../runs/content";
import { readable } from "../runs/quantities";
import { Coloured } from "./coloured";

const PAGE = 100;
const LONG = 1000;
const BRIEF = 60; // of what is shown as a picture beside
const OPEN_BYTES = 1000;
const LINE_BYTES = 60;
const MOST_OPEN_BYTES = 200_000; // of what is unfolded at once

/** Whether all that can be folded begins so; undefined where its size decides. */
const Begun = createContext<boolean | undefined>(undefined);

interface TreeProps {
  value: unknown;
  name: string;
  isOpen?: boolean;
  /** It stays open when all is folded. */
  isRoot?: boolean;
}

interface FoldingTreeProps {
  value: unknown;
  name: string;
  tools?: ReactNode;
}

/** A value with what folds and unfolds all of it, where some of it is folded. */
export function FoldingTree({ value, name, tools }: FoldingTreeProps) {
  const [{ isOpen, times }, fold] = useState<{ isOpen?: boolean; times: number }>({ times: 0 });
  const bytes = sizeOf(value);
  return (
    <div className="tree">
      <div className="line tree-tools">
        {OPEN_BYTES <= bytes && bytes <= MOST_OPEN_BYTES && (
          <button type="button" className="quiet" onClick={() => fold({ isOpen: !isOpen, times: times + 1 })}>{isOpen ? "Collapse all" : "Expand all"}</button>
        )}
        {tools}
      </div>
      <Begun.Provider value={isOpen}><Tree key={times} value={value} name={name} isOpen isRoot /></Begun.Provider>
    </div>
  );
}

/** One value, and below it, when open, its parts; small values begin open, tiny ones stand in their line. */
export function Tree({ value, name, isOpen = false, isRoot = false }: TreeProps) {
  const begun = useContext(Begun);
  const [isShown, setShown] = useState(isRoot || (begun ?? isOpen));
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
        <button type="button" className="quiet" onClick={() => setMost(most + 10 * PAGE)}>Show {Math.min(10 * PAGE, entries.length - most)} more</button>
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
  const shown = isLong ? `${text.slice(0, most)}…` : text;
  return (
    <div className="leaf">
      <Key name={name} /> {typeof value === "string" ? <span className="of-string">{shown}</span> : <Coloured code={shown} />}
      {isLong && <button type="button" className="quiet" onClick={() => setWhole(true)}>Show all {readable(text.length)}</button>}
    </div>
  );
}
