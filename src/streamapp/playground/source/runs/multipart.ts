/** Turn an input into a form, where it has files that JSON cannot hold. */

import { StreamappError, stringifyJson } from "streamapp-client";

import { isOwn } from "./content";
import type { Endpoint, Fields, Input } from "./schema";
import { nameOf } from "./sent";

/** Return what is sent of an input's body: a form with its files, or the input as it is, where there are none. */
export async function sendable({ uploads, isRaw }: Endpoint, body: Input): Promise<Input | FormData> {
  if (isRaw || !uploads.some((name) => filesIn((body as Fields)[name]).length)) return body;
  const form = new FormData();
  for (const [name, value] of Object.entries(body as Fields)) {
    if (uploads.includes(name)) for (const url of filesIn(value)) form.append(name, await fileAt(url, name));
    else if (typeof value === "object") form.append(name, new Blob([stringifyJson(value)], { type: "application/json" }));
    else if (value !== undefined) form.append(name, String(value));
  }
  return form;
}

function filesIn(value: unknown): string[] {
  return (Array.isArray(value) ? value : [value]).filter((url) => typeof url === "string" && url !== "");
}

async function fileAt(url: string, name: string): Promise<File> {
  if (!isOwn(url) || url.startsWith("data:")) throw wrong(name, "This field takes no URL. Choose the file on this machine.");
  const response = await fetch(url).catch(() => undefined);
  if (!response?.ok) throw wrong(name, "The server no longer has this file. Choose it again.");
  const blob = await response.blob();
  return new File([blob], nameOf(url), { type: blob.type });
}

function wrong(name: string, msg: string): StreamappError {
  return new StreamappError("invalid_input", `${name}: ${msg}`, { detail: [{ loc: ["body", name], msg }] });
}
