/** Take a result out of the page as files. */

import { stringifyJson } from "streamapp-client";

import { bytesOf, type Content, type Media } from "../runs/content";
import { seedOf } from "../runs/history";
import type { Run } from "../runs/run";
import { fileName, save } from "../show/save";

const MOST_ZIPPED_BYTES = 200e6;

export type MediaContent = Content & { media: Media };

interface ResultFile {
  name: string;
  /** About how large it is. */
  bytes: number;
  /** Where it is. */
  url?: string;
  read: () => Promise<Blob>;
}

/** Return the files of a result: what it shows, and, where that is nothing, its JSON. */
export function filesOf(run: Run): ResultFile[] {
  const stem = stemOf(run);
  const media = mediaOf(run);
  const files = media.map((content, n) => mediaFile(content, media.length > 1 ? `${stem}-${n + 1}` : stem));
  for (const sound of run.sounds.values()) {
    if (!sound.file && sound.endS > 0) files.push({ name: `${stem}.wav`, bytes: 0, read: async () => sound.wav() });
  }
  if (run.text) files.push(textFile(`${stem}.txt`, run.text, "text/plain"));
  if (!files.length && (run.result ?? run.outputs.at(-1)) !== undefined) files.push(textFile(`${stem}.json`, jsonOf(run), "application/json"));
  return files.map((file, n) => (files.findIndex(({ name }) => name === file.name) < n ? { ...file, name: `${n + 1}-${file.name}` } : file));
}

function mediaFile({ media }: MediaContent, stem: string): ResultFile {
  const { url, content_type, file_size } = media;
  return { name: fileName(media, stem), bytes: file_size ?? url.length, url, read: async () => new Blob([await bytesOf(url)], { type: content_type }) };
}

function textFile(name: string, text: string, type: string): ResultFile {
  return { name, bytes: text.length, read: async () => new Blob([text], { type }) };
}

/** Return what of a result can be saved. */
export function mediaOf({ results }: Run): MediaContent[] {
  return [...results.values()].filter((content): content is MediaContent => "media" in content && content.kind !== "elsewhere");
}

/** Return the JSON of a result. */
export function jsonOf({ result, outputs }: Run): string {
  return stringifyJson(result ?? outputs.at(-1)?.data, 2);
}

function stemOf({ endpoint, result, jobId = "" }: Run): string {
  return [endpoint?.app, seedOf(result) ?? jobId.slice(0, 8)].filter((part) => part !== undefined && part !== "").join("-");
}

/** Save files: several as one, unless that would take too much memory. */
export async function saveAll(run: Run): Promise<void> {
  const files = filesOf(run);
  const isOne = files.length > 1 && files.reduce((sum, { bytes }) => sum + bytes, 0) < MOST_ZIPPED_BYTES;
  if (!isOne) {
    for (const { name, url, read } of files) save(url ?? (await read()), name); // by its URL nothing is read into memory
    return;
  }
  const members = files.map(async ({ name, read }) => ({ name, bytes: new Uint8Array(await (await read()).arrayBuffer()) }));
  const { zipOf } = await import("./zip"); // seldom needed
  save(zipOf(await Promise.all(members)), `${stemOf(run)}.zip`);
}
