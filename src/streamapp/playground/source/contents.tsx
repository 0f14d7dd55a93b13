/** Show contents by their type: images, audio, video, meshes, voxels, tables, files. */

import { lazy, Suspense } from "react";
import { stringifyJson } from "streamapp-client";

import type { Content, Media } from "./content";
import { ImageView } from "./image";
import type { Frame } from "./run";

const Scene = lazy(() => import("./scene"));
const MOST_ROWS = 200;

/** All that a frame shows. */
export function Contents({ frame, isOver }: { frame: Frame; isOver: boolean }) {
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
  if (content.kind === "table") return <Table name={content.slot} rows={content.rows} />;
  if (content.kind === "voxels" || content.kind === "mesh") return <Solid content={content} />;
  const { media, kind } = content;
  if (kind === "elsewhere") return <Elsewhere url={media.url} />;
  if (kind === "image") return <ImageView media={media} alt={frame.kind} step={frame.step} />;
  const name = media.file_name ?? kind;
  return (
    <figure>
      {kind === "audio" && <audio controls src={media.url} aria-label={name} />}
      {kind === "video" && <video controls autoPlay={isOver} muted loop playsInline src={media.url} aria-label={name} />}
      <figcaption className="line"><Download media={media} name={name} /></figcaption>
    </figure>
  );
}

/** Cubes may become a mesh, and the view stays: it is one element for both. */
function Solid({ content }: { content: Content }) {
  return (
    <figure>
      <Suspense fallback={<p className="note">Loading the 3D view.</p>}>
        <Scene content={content} />
      </Suspense>
      {"media" in content && (
        <figcaption className="line"><Download media={content.media} name={content.media.file_name ?? content.kind} /></figcaption>
      )}
    </figure>
  );
}

function Download({ media, name }: { media: Media; name: string }) {
  return <><a href={media.url} download={name}>Download</a> <span className="note">{name}, {media.content_type}</span></>;
}

/** The page asks no other host for anything, and no link runs anything. */
function Elsewhere({ url }: { url: string }) {
  const link = /^https?:/i.test(url) ? <a href={url} target="_blank" rel="noreferrer noopener">{url}</a> : url;
  return <p className="note">A file elsewhere: {link}</p>;
}

function Table({ name, rows }: { name: string; rows: Record<string, unknown>[] }) {
  const columns = [...new Set(rows.slice(0, MOST_ROWS).flatMap(Object.keys))];
  return (
    <div className="scroll" tabIndex={0} role="group" aria-label={`Table ${name}`}>
      <table>
        {name && <caption>{name}</caption>}
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
  return value === undefined ? "" : typeof value === "string" ? value : stringifyJson(value);
}
