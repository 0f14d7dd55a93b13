/** Show what a job brings, by content type: live, and when it is over. */

import Markdown from "markdown-to-jsx/react";
import { lazy, Suspense, useDeferredValue, useEffect, useId, useState } from "react";

import type { Content } from "./content";
import { ImageView } from "./image";
import { Meter } from "./parts";
import type { Frame, Run } from "./run";
import { Tree } from "./tree";

const Scene = lazy(() => import("./scene"));
const MOST_ROWS = 200;
// Above this, parsing the whole text anew with each piece would take longer than drawing it.
const MOST_MARKDOWN = 100_000;

/** The region "Output". */
export function Output({ run }: { run: Run }) {
  const [chosen, choose] = useState<number>();
  useEffect(() => choose(undefined), [run]);
  const results = [...run.results.values()];
  const last = run.frames.length; // one more than the last frame: the results
  const end = results.length ? last : last - 1;
  const at = Math.min(chosen ?? end, end);
  const frame: Frame | undefined = run.frames[at];
  const shown = frame ?? { kind: "result" as const, contents: results };
  return (
    <div className="output">
      <Progress run={run} />
      {shown.contents.length > 0 && <Contents frame={shown} isOver={run.isOver} />}
      {end > 0 && <Strip at={at} end={end} frame={shown} choose={(n) => choose(n === end ? undefined : n)} />}
      {run.text && <Text text={run.text} />}
      {run.outputs.length > 0 && <Outputs run={run} />}
      {run.skipped > 0 && <p className="note">{run.skipped} events came and went before this page could read them.</p>}
      {run.count === 0 && run.status !== "failed" && <p className="note">{waiting(run)}</p>}
    </div>
  );
}

function waiting(run: Run): string {
  if (run.isOver) return "Nothing came.";
  return run.status === "queued" ? "Waiting for its turn." : "Running; nothing has come yet.";
}

function Progress({ run }: { run: Run }) {
  const { progress } = run;
  if (!progress) return null;
  const { step, total, message } = progress;
  const words = `step ${step}${total ? ` of ${total}` : ""}${message ? `: ${message}` : ""}`;
  return (
    <div className="progress">
      <Meter label="Progress" value={step} max={total ?? undefined} />
      <span>{words}</span>
      {!run.isOver && <span>{remaining(run)}</span>}
    </div>
  );
}

function remaining(run: Run): string {
  const { progress, runningAt, arrivals } = run;
  if (!progress?.total || runningAt === undefined || progress.step < 2) return "";
  const perStep = (arrivals.at(-1)!.at - runningAt) / progress.step;
  return `about ${((perStep * (progress.total - progress.step)) / 1000).toFixed(1)} s left`;
}

interface StripProps {
  at: number;
  end: number;
  frame: Frame;
  choose: (n: number) => void;
}

/** Scrub through all previews. */
function Strip({ at, end, frame, choose }: StripProps) {
  const id = useId();
  const name = frame.kind === "preview" ? `preview${frame.step === undefined ? "" : ` of step ${frame.step}`}` : "result";
  return (
    <div className="strip">
      <label htmlFor={id}>Previews</label>
      <input id={id} type="range" min={0} max={end} value={at} aria-valuetext={name} onChange={(e) => choose(e.target.valueAsNumber)} />
      <output htmlFor={id}>{name}</output>
    </div>
  );
}

function Contents({ frame, isOver }: { frame: Frame; isOver: boolean }) {
  const isGrid = frame.contents.filter(({ kind }) => kind === "image").length > 1;
  return (
    <div className={isGrid ? "grid" : "single"}>
      {frame.contents.map((content) => (
        <One key={content.slot} content={content} frame={frame} isOver={isOver} />
      ))}
    </div>
  );
}

function One({ content, frame, isOver }: { content: Content; frame: Frame; isOver: boolean }) {
  if (content.kind === "table") return <Table rows={content.rows} />;
  if (content.kind === "voxels") return <Lazy content={content} />;
  const { media, kind } = content;
  if (isForeign(media.url)) return <Foreign url={media.url} />;
  if (kind === "image") return <ImageView media={media} alt={frame.kind} step={frame.step} />;
  const name = media.file_name ?? kind;
  if (kind === "audio") return <figure><audio controls src={media.url} aria-label={name} /><Download {...{ media, name }} /></figure>;
  if (kind === "video") return <figure><video controls autoPlay={isOver} muted loop playsInline src={media.url} aria-label={name} /><Download {...{ media, name }} /></figure>;
  if (kind === "mesh") return <figure><Lazy content={content} /><Download {...{ media, name }} /></figure>;
  return <figure><span>{media.content_type}</span> <Download {...{ media, name }} /></figure>;
}

function Lazy({ content }: { content: Content }) {
  return (
    <Suspense fallback={<p className="note">Loading the 3D view.</p>}>
      <Scene content={content} />
    </Suspense>
  );
}

function Download({ media, name }: { media: { url: string }; name: string }) {
  return <a href={media.url} download={name}>Download</a>;
}

function isForeign(url: string): boolean {
  const { protocol, origin } = new URL(url, location.href);
  return protocol.startsWith("http") && origin !== location.origin;
}

/** The page asks no other host for anything. */
function Foreign({ url }: { url: string }) {
  return <p className="note">A file on another server: <a href={url} target="_blank" rel="noreferrer noopener">{url}</a></p>;
}

const MARKDOWN = { disableParsingRawHTML: true, forceBlock: true, overrides: { a: Link, img: Nothing } };

/** Markdown that the app wrote: no HTML, no image from elsewhere, no link that runs anything. */
function Text({ text }: { text: string }) {
  const [isPlain, setPlain] = useState(false);
  const late = useDeferredValue(text);
  const isLong = text.length > MOST_MARKDOWN;
  return (
    <section className="text" aria-label="Text">
      <button type="button" aria-pressed={isPlain} onClick={() => setPlain(!isPlain)}>Plain text</button>
      {isPlain || isLong ? <pre className="prose">{text}</pre> : <Markdown className="prose" options={MARKDOWN}>{late}</Markdown>}
    </section>
  );
}

function Link({ href, children }: { href?: string; children?: React.ReactNode }) {
  const isSafe = /^(https?:|mailto:|#)/i.test(href ?? "");
  return isSafe ? <a href={href} target="_blank" rel="noreferrer noopener">{children}</a> : <>{children}</>;
}

function Nothing({ alt }: { alt?: string }) {
  return <em>{alt}</em>;
}

function Table({ rows }: { rows: Record<string, unknown>[] }) {
  const columns = [...new Set(rows.slice(0, MOST_ROWS).flatMap(Object.keys))];
  return (
    <div className="scroll" tabIndex={0} role="group" aria-label="Table">
      <table>
        <thead><tr>{columns.map((column) => <th key={column} scope="col">{column}</th>)}</tr></thead>
        <tbody>
          {rows.slice(0, MOST_ROWS).map((row, n) => (
            <tr key={n}>{columns.map((column) => <td key={column}>{cell(row[column])}</td>)}</tr>
          ))}
        </tbody>
      </table>
      {rows.length > MOST_ROWS && <p className="note">{rows.length - MOST_ROWS} more rows</p>}
    </div>
  );
}

function cell(value: unknown): string {
  return value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
}

/** The events as JSON; the last one, the result, is open. */
function Outputs({ run }: { run: Run }) {
  const [last, ...others] = [...run.outputs].reverse();
  const hidden = run.outputCount - run.outputs.length;
  return (
    <section className="json" aria-label="JSON">
      <Tree value={last!.data} name={run.status === "succeeded" ? "result" : last!.name} isOpen />
      {others.length > 0 && (
        <details>
          <summary>{others.length} earlier events</summary>
          {others.map(({ name, data }, n) => <Tree key={others.length - n} value={data} name={name} />)}
          {hidden > 0 && <p className="note">{hidden} before these are not kept</p>}
        </details>
      )}
    </section>
  );
}

