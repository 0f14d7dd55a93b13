/** Know where a result can go on: the fields that take what it is. */

import type { Send } from "../form/upload";
import { bytesOf, isOwn, type Media, typeIn } from "../runs/content";
import type { Run } from "../runs/run";
import { type Endpoint, type Fields, fieldsOf, isRecord, type MediaKind, type Schema } from "../runs/schema";
import { remember } from "../runs/sent";
import { mediaOf } from "./files";

/** A field that takes what a run has made. */
export interface Use {
  endpoint: Endpoint;
  field: string;
  /** The field's, and, where it is another one's, the endpoint's. */
  name: string;
  isList: boolean;
}

/** What of a result goes on: its first file of a kind that fields take, else its text. */
export type Made = { kind: MediaKind; media: Media } | { kind: "text"; text: string };

const ASKED = /prompt|text|question|query|scene|story|lyrics|content/i;

export function madeBy(run: Run): Made | undefined {
  const [first] = mediaOf(run);
  if (first) return madeOf(first.media, first.kind);
  return run.text ? { kind: "text", text: run.text } : undefined;
}

/** Return a file as what fields take. */
export function madeOf(media: Media, kind = media.content_type.split("/")[0]): Made {
  return { kind: kind === "image" || kind === "audio" || kind === "video" ? kind : "file", media };
}

/** Return the fields that take it: those of the endpoint one is at first, and those for any file only where there are no others. */
export function usesOf(made: Made, endpoints: Endpoint[], here: Endpoint): Use[] {
  const others = endpoints.filter(({ path, app, kind }) => path !== here.path && app === here.app && kind !== "socket");
  const all = [here, ...others].flatMap((endpoint) => usesIn(endpoint, made.kind).map((use) => ({ ...use, name: endpoint === here ? use.name : `${use.name} of ${endpoint.path}` })));
  if (all.length || made.kind === "text") return all;
  return made.kind === "file" ? [] : usesOf({ ...made, kind: "file" }, endpoints, here);
}

function usesIn(endpoint: Endpoint, kind: Made["kind"]): Use[] {
  const fields = endpoint.isRaw ? [] : Object.entries(fieldsOf(endpoint));
  const takes = ([name, field]: [string, Schema]) =>
    kind === "text" ? field.type === "string" && ASKED.test(name) && !field.enum && !field.format && !field.media && !/negative/i.test(name) : mediaKind(field) === kind;
  return fields.filter(takes).map(([name, field]) => ({ endpoint, field: name, name: field.title ?? name, isList: field.type === "array" }));
}

function mediaKind({ media, items }: Schema): string | undefined {
  return media ?? (isRecord(items) ? items.media : undefined);
}

/** Return a form's input with a value in that field, behind those that are there where it takes several. */
export function usedIn(use: Use, input: unknown, value: string): Fields {
  const before = isRecord(input) ? input : {};
  const list = Array.isArray(before[use.field]) ? (before[use.field] as unknown[]) : [];
  return { ...before, [use.field]: use.isList ? [...list, value] : value };
}

const SHORT = 1000; // what may stand in an input, and so in links, as it is
const stored = new Map<string, string>();

/** Return where a file is in the server's store that this page has put there; itself where it has not. */
export function storedAs(url: unknown): unknown {
  return stored.get(url as string) ?? url;
}

/** Return the URL of a file that is to go into an input; one that came with an event is put into the server's store. */
export async function lasting({ url, content_type, file_name = "result" }: Media, upload: Send): Promise<string> {
  if (!url.startsWith("data:")) return isOwn(url) ? new URL(url, location.href).href : url;
  if (url.length < SHORT || stored.has(url)) return stored.get(url) ?? url;
  const file = new File([await bytesOf(url)], file_name, { type: content_type });
  const put = (at: string) => {
    remember(at, file);
    stored.set(url, at);
    return at;
  };
  return upload(file, file_name).then(put, () => url);
}

/** Return an input whose files are in the server's store. */
export async function lastingIn(endpoint: Endpoint, input: unknown, upload: Send): Promise<unknown> {
  if (!isRecord(input)) return input;
  const fields = fieldsOf(endpoint);
  const put = async ([name, value]: [string, unknown]) => {
    const isInline = fields[name]?.media && typeof value === "string" && value.startsWith("data:");
    const content_type = typeIn(String(value));
    return [name, isInline ? await lasting({ url: value, content_type, file_name: `example.${content_type.split("/")[1]}` }, upload) : value];
  };
  return Object.fromEntries(await Promise.all(Object.entries(input).map(put)));
}
