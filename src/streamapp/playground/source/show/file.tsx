/** Show a file as what it is: its name, its kind in words, how large it is. */

import { Icon, type Sign } from "../parts/icon";
import type { Media } from "../runs/content";
import { readable } from "../runs/quantities";
import { fileName, InputSign } from "./save";

interface FileRowProps {
  media: Media;
  /** What stands above is the file itself: its row is quieter. */
  isCaption?: boolean;
}

/** One file, to be downloaded. */
export function FileRow({ media, isCaption = false }: FileRowProps) {
  const [words, sign] = kindOf(media);
  const bytes = sizeOf(media);
  const name = fileName(media, "result");
  return (
    <div className={isCaption ? "file caption" : "file"}>
      {!isCaption && <Icon sign={sign} />}
      <span className="about-file">
        <b>{name}</b>
        <span className="note">{[words, bytes !== undefined && readable(bytes)].filter(Boolean).join(" · ")}</span>
      </span>
      <InputSign media={media} />
      <a className="button" href={media.url} download={name}>Download</a>
    </div>
  );
}

/** The page asks no other host for anything, and no link runs anything. */
export function Elsewhere({ url }: { url: string }) {
  const link = /^https?:/i.test(url) ? <a href={url} target="_blank" rel="noreferrer noopener">{url}</a> : url;
  return <p className="file elsewhere"><Icon sign="link" /><span className="about-file"><span className="note">A file elsewhere:</span> {link}</span></p>;
}

const BY_ENDING: Record<string, string> = {
  pdf: "PDF document", zip: "ZIP archive", tar: "Archive", gz: "Archive", tgz: "Archive", json: "JSON", jsonl: "JSON Lines", ndjson: "JSON Lines",
  csv: "CSV table", xlsx: "Spreadsheet", docx: "Text document", md: "Markdown", html: "Web page", safetensors: "Model weights", pt: "Model weights",
  ckpt: "Model weights", gguf: "Model weights",
};
const BY_FAMILY: Record<string, [string, Sign]> = {
  image: ["image", "file"], audio: ["sound", "file"], video: ["film", "film"], model: ["model", "solid"], text: ["Text", "file"],
};

/** Say what a file is: "PDF document", "GLB model". */
function kindOf(media: Media): [string, Sign] {
  const type = media.content_type.split(";")[0]!;
  const [word = "", sign = "file"] = BY_FAMILY[type.split("/")[0]!] ?? [];
  const ending = fileName(media, "").split(".").at(-1)!.toLowerCase();
  if (ending in BY_ENDING) return [BY_ENDING[ending]!, sign];
  if (word === "Text") return [word, sign];
  if (word) return [`${ending.toUpperCase()} ${word}`, sign];
  return [type === "application/octet-stream" ? "File" : type, sign];
}

/** Its bytes, where it says how many, or is here. */
function sizeOf({ url, file_size }: Media): number | undefined {
  if (typeof file_size === "number") return file_size;
  const inline = /^data:[^,]*?(;base64)?,/i.exec(url);
  if (!inline) return undefined;
  const letters = url.length - inline[0].length;
  return inline[1] ? Math.floor(letters * 0.75) - (url.endsWith("==") ? 2 : url.endsWith("=") ? 1 : 0) : letters;
}
