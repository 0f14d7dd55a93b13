/** Text that grows, as Markdown: no HTML, no image from elsewhere, no link that runs anything. */

import Markdown from "markdown-to-jsx/react";
import { createElement, type ReactNode, useDeferredValue, useState } from "react";

import { CopyButton } from "./parts";

// Above this, parsing the whole text anew with each piece would take longer than drawing it.
const MOST_MARKDOWN = 100_000;
const OPTIONS = {
  disableParsingRawHTML: true,
  forceBlock: true,
  forceWrapper: true, // which has the class
  overrides: { a: Link, img: Nothing, h1: heading("h3"), h2: heading("h4"), h3: heading("h5"), h4: heading("h6"), h5: heading("h6"), h6: heading("h6") },
};

/** A text that an app has written; `isSource` begins with it as it is. */
export function Text({ text, isSource }: { text: string; isSource: boolean }) {
  const [isPlain, setPlain] = useState(isSource);
  const late = useDeferredValue(text);
  const isLong = text.length > MOST_MARKDOWN;
  return (
    <section className="text" aria-label="Text">
      <div className="line tools">
        <CopyButton name="Copy text" text={() => text} />
        <button type="button" aria-pressed={isPlain} onClick={() => setPlain(!isPlain)}>Plain text</button>
      </div>
      {isPlain || isLong ? <pre className="prose">{text}</pre> : <Prose text={late} />}
    </section>
  );
}

/** Markdown; what stands in it as HTML is shown as it is. */
export function Prose({ text }: { text: string }) {
  return <Markdown className="prose" options={OPTIONS}>{text}</Markdown>;
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
