/** Show what a file field holds: a picture, a film, a sound, or what the file is called. */

import { useState } from "react";

import { Icon } from "../parts/icon";
import { lately } from "../parts/lately";
import { isOwn, typeIn } from "../runs/content";
import { readable } from "../runs/quantities";
import type { MediaKind } from "../runs/schema";
import { sentAs } from "../runs/sent";
import { kindAt, type Pixels } from "./known";

const AudioFile = lately(async () => (await import("../show/soundview")).AudioFile);

interface LookProps {
  url: string;
  kind: MediaKind;
  onPixels?: (size: Pixels) => void;
}

/** What a file looks like, if it is this server's, and the browser can show it: the page asks no other host. */
export function Look({ url, kind, onPixels }: LookProps) {
  const [broken, setBroken] = useState("");
  const shown = isOwn(url) && broken !== url ? kindAt(url, kind) : "file";
  const isGone = broken === url && kind !== "file" && !url.startsWith("blob:");
  const onError = () => setBroken(url);
  if (shown === "image") {
    return (
      <img className="look" src={url} alt="chosen" draggable={false} onError={onError}
        onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => onPixels?.([naturalWidth, naturalHeight])} />
    );
  }
  if (shown === "video") return <video className="look" controls muted playsInline src={url} aria-label="chosen" onError={onError} />;
  if (shown === "audio") return <div className="look heard"><AudioFile media={{ url, content_type: sentAs(url)?.type ?? typeIn(url) }} name="chosen" isCompact /></div>;
  return (
    <>
      <div className="look paper"><Icon sign="file" /></div>
      {isGone && <p className="note unshown">The browser cannot show it, or the server no longer has it.</p>}
      {!isOwn(url) && <p className="note unshown">It is on another site. This page shows nothing from there.</p>}
    </>
  );
}

/** Say how large a file is, as far as that is known, or where it is. */
export function factsOf(url: string, size: Pixels | undefined): string {
  if (!isOwn(url)) return URL.canParse(url) ? new URL(url).host : "";
  const bytes = sentAs(url)?.bytes;
  return [...(size ? [size.join(" × ")] : []), ...(bytes === undefined ? [] : [readable(bytes)])].join(" · ");
}
