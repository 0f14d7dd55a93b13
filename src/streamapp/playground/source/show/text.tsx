/** Text that grows, as Markdown: no HTML, no image from elsewhere, no link that runs anything. */

import Markdown, { type MarkdownToJSX, RuleType } from "markdown-to-jsx/react";
import { createElement, type ReactNode, useDeferredValue, useState } from "react";

import { CopyButton } from "../parts/copy";
import { Follow } from "./follow";

// Above this, parsing the whole text anew with each piece would take longer than drawing it.
const MOST_MARKDOWN = 100_000;
const OPTIONS: MarkdownToJSX.Options = {
  disableParsingRawHTML: true,
  forceBlock: true,
  forceWrapper: true, // which has the class
  overrides: {
    a: Link, img: Nothing, table: Table, input: Task,
    h1: heading("h3"), h2: heading("h4"), h3: heading("h5"), h4: heading("h6"), h5: heading("h6"), h6: heading("h6"),
  },
  renderRule: (next, node, _, { key }) =>
    node.type === RuleType.codeBlock ? <Listing key={key} language={node.lang ?? ""} code={node.text} /> : next(),
};
const GROWING = { ...OPTIONS, optimizeForStreaming: true };

interface TextProps {
  text: string;
  /** Begin with it as it is. */
  isSource: boolean;
  /** Whether there is more to come. */
  isGrowing?: boolean;
}

/** A text that an app has written. */
export function Text({ text, isSource, isGrowing = false }: TextProps) {
  const [isPlain, setPlain] = useState(isSource);
  const [hasGrown] = useState(isGrowing);
  return (
    <section className="text" aria-label="Text">
      <Follow role="group" label="The text" of={hasGrown || undefined}>
        <Written {...{ text, isPlain, isGrowing }} />
      </Follow>
      <div className="line tools">
        <TextTools {...{ text, isPlain, setPlain }} />
      </div>
    </section>
  );
}

/** A text as it is, or as Markdown where it is not too long for that. */
export function Written({ text, isPlain, isGrowing }: { text: string; isPlain: boolean; isGrowing: boolean }) {
  return isPlain || isTooLong(text) ? <pre className="prose">{text}</pre> : <Prose text={text} isGrowing={isGrowing} />;
}

function isTooLong(text: string): boolean {
  return text.length > MOST_MARKDOWN;
}

/** What can be done with a text. */
export function TextTools({ text, isPlain, setPlain }: { text: string; isPlain: boolean; setPlain: (isPlain: boolean) => void }) {
  return (
    <>
      <CopyButton name="Copy text" text={() => text} />
      {!isTooLong(text) && <button type="button" className="quiet" aria-pressed={isPlain} onClick={() => setPlain(!isPlain)}>Plain text</button>}
    </>
  );
}

/** Markdown; what stands in it as HTML is shown as it is. */
export function Prose({ text, isGrowing = false }: { text: string; isGrowing?: boolean }) {
  const late = useDeferredValue(text);
  if (isGrowing) return <Markdown className="prose growing" options={GROWING}>{closed(late)}</Markdown>;
  return <Markdown className="prose" options={OPTIONS}>{late}</Markdown>;
}

const FENCE = /^ {0,3}(```|~~~)/gm;

/** Close what is open in the last paragraph of a text that grows: it would change its look when its end comes. */
function closed(text: string): string {
  if ((text.match(FENCE)?.length ?? 0) % 2) return text;
  const whole = text.replace(/(^|\n) {0,3}`{1,2}$|\*{1,2}$/, "$1"); // half a fence; bold words that have not begun
  const last = whole.slice(whole.lastIndexOf("\n\n") + 1);
  if ((last.match(/`/g)?.length ?? 0) % 2) return `${whole.trimEnd()}\``;
  return (last.match(/\*\*(?!\*)/g)?.length ?? 0) % 2 ? `${whole.trimEnd()}**` : whole;
}

/** Put a heading below the page's own ones; without an id, which might be one of the page's. */
function heading(level: string) {
  return ({ children }: { children?: ReactNode }) => createElement(level, null, children);
}

function Link({ href, children }: { href?: string; children?: ReactNode }) {
  const isSafe = /^(https?:|mailto:|#)/i.test(href ?? "");
  return isSafe ? <a href={href} target="_blank" rel="noreferrer noopener">{children}</a> : <>{children}</>;
}

function Nothing({ alt }: { alt?: string }) {
  return <em>{alt}</em>;
}

/** What is wider than the text scrolls by itself. */
function Table({ children }: { children?: ReactNode }) {
  return <div className="sheet" tabIndex={0} role="group" aria-label="Table"><table>{children}</table></div>;
}

/** An item of a list that is done, or is not. */
function Task({ checked = false }: { checked?: boolean }) {
  return <span className={checked ? "task done" : "task"} role="img" aria-label={checked ? "Done:" : "To do:"} />;
}

/** Lines of code, with the name of their language. */
function Listing({ language, code }: { language: string; code: string }) {
  return (
    <figure className="listing">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton name="Copy" text={() => code} />
      </figcaption>
      <pre tabIndex={0}><code>{code}</code></pre>
    </figure>
  );
}
