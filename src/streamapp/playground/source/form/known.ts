/** What files look like, and which of them the fields of the form hold. */

import { useEffect, useState, useSyncExternalStore } from "react";

import { isOwn, typeIn } from "../runs/content";
import { pictureAt } from "../runs/picture";
import type { MediaKind } from "../runs/schema";
import { nameOf, sentAs } from "../runs/sent";

const BY_NAME: [RegExp, MediaKind][] = [
  [/\.(png|jpe?g|webp|gif|avif)$/i, "image"], [/\.(wav|mp3|ogg|flac|m4a)$/i, "audio"], [/\.(mp4|webm|mov)$/i, "video"],
];

/** Say as what a file can be shown: one in a field for any file may be a picture. */
export function kindAt(url: string, kind: MediaKind): MediaKind {
  if (kind !== "file") return kind;
  const family = familyOf({ type: sentAs(url)?.type ?? typeIn(url) });
  return family !== "file" ? family : BY_NAME.find(([pattern]) => pattern.test(nameOf(url)))?.[1] ?? "file";
}

/** Say what a file is by its type. */
export function familyOf({ type }: { type: string }): MediaKind {
  return (/^(image|audio|video)\//.exec(type)?.[1] ?? "file") as MediaKind;
}

/** Width and height in pixels. */
export type Pixels = [number, number];

/** Return how large a picture of this server is; undefined until that is known. */
export function usePixels(url: string | undefined): Pixels | undefined {
  const [found, setFound] = useState<{ url: string; size: Pixels }>();
  useEffect(() => {
    if (!url || !isOwn(url)) return;
    let isCurrent = true;
    pictureAt(url).then((picture) => picture && isCurrent && setFound({ url, size: [picture.naturalWidth, picture.naturalHeight] }));
    return () => void (isCurrent = false);
  }, [url]);
  return found?.url === url ? found?.size : undefined;
}

const held = new Map<string, string>();
const listeners = new Set<() => void>();

function hold(id: string, url: string | undefined): void {
  if (url) held.set(id, url);
  else held.delete(id);
  for (const listener of listeners) listener();
}

function listen(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Let other fields know what this one holds: a mask is painted on the image beside it. */
export function useHolding(id: string, url: string | undefined): void {
  useEffect(() => {
    hold(id, url);
    return () => hold(id, undefined);
  }, [id, url]);
}

/** Return what a field holds. */
export function useHeld(id: string): string | undefined {
  return useSyncExternalStore(listen, () => held.get(id));
}
