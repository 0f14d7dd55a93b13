/** Show contents by their kind: images, audio, video, meshes, voxels, tables, files. */

import { lazy, Suspense } from "react";

import { lately } from "../parts/lately";
import type { Content } from "../runs/content";
import type { Frame } from "../runs/run";
import { Elsewhere, FileRow } from "./file";
import { Images } from "./image";
import { Film } from "./video";

const AudioFile = lately(async () => (await import("./soundview")).AudioFile);
const Table = lately(async () => (await import("./table")).Table);
const Scene = lazy(() => import("./scene"));

/** All that a frame shows: its images together, then the others one below the other. */
export function Contents({ frame: { contents, kind, step } }: { frame: Frame }) {
  const pictures = contents.flatMap((content) => (content.kind === "image" ? [{ slot: content.slot, media: content.media }] : []));
  const others = contents.filter((content) => content.kind !== "image" && !("isHeard" in content));
  if (pictures.length + others.length === 0) return null;
  return (
    <div className="contents">
      {pictures.length > 0 && <Images pictures={pictures} alt={kind} step={step} />}
      {others.map((content) => <One key={content.slot} content={content} />)}
    </div>
  );
}

function One({ content }: { content: Content }) {
  if (content.kind === "table") return <Table name={content.slot} rows={content.rows} />;
  if (content.kind === "voxels" || content.kind === "mesh") return <Solid content={content} />;
  const { media, kind, slot } = content;
  if (kind === "elsewhere") return <Elsewhere url={media.url} />;
  const name = media.file_name ?? (slot || kind);
  if (kind === "audio") return <AudioFile media={media} name={name} />;
  if (kind === "file") return <FileRow media={media} />;
  return (
    <figure>
      <Film media={media} name={name} />
      <FileRow media={media} isCaption />
    </figure>
  );
}

/** Cubes may become a mesh, and the view stays: it is one element for both. */
function Solid({ content }: { content: Content }) {
  return (
    <figure>
      <Suspense fallback={<p className="solid-awaited">Loading the 3D view</p>}>
        <Scene content={content} />
      </Suspense>
      {"media" in content && <FileRow media={content.media} isCaption />}
    </figure>
  );
}
