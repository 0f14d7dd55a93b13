/** Take a result out of the page as a file, or into the form. */

import { useContext } from "react";

import { Icon, IconButton } from "../parts/icon";
import type { Media } from "../runs/content";
import { ResultActions } from "./actions";

const KEPT_MS = 60_000; // for a browser that asks where to save it

/** Give the browser a file to keep: one that was made here, or where it is. */
export function save(file: Blob | string, name: string): void {
  const url = typeof file === "string" ? file : URL.createObjectURL(file);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  if (file instanceof Blob) setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}

/** The file's name, or one by its type. */
export function fileName({ file_name, content_type }: Media, stem: string): string {
  const ending = content_type.split("/")[1]?.split(/[+;]/)[0]?.replace("jpeg", "jpg").replace(/^mpeg$/, "mp3").replace(/^x-/, "");
  return file_name ?? `${stem}.${ending || "bin"}`;
}

/** A sign that saves the file. */
export function DownloadSign({ media, name }: { media: Media; name: string }) {
  return <a className="icon" href={media.url} download={name} aria-label="Download" title="Download"><Icon sign="download" /></a>;
}

/** A sign that puts the file into the form, where a field takes it. */
export function InputSign({ media }: { media: Media }) {
  const { useAsInput, takes } = useContext(ResultActions);
  if (!useAsInput || takes?.(media) === false) return null;
  return <IconButton sign="input" name="Use as input" onClick={() => useAsInput(media)} />;
}
