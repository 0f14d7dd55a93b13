/** What the page knows of files by their URLs: those that it has sent. */

import { isOwn } from "./content";

interface Sent {
  name: string;
  type: string;
  bytes: number;
}

const sent = new Map<string, Sent>();

/** Note what a file was that is at this URL now. */
export function remember(url: string, { name, type, size }: File): void {
  sent.set(url, { name, type, bytes: size });
}

/** Return what is known of a file that was sent by this page since it was opened. */
export function sentAs(url: string): Sent | undefined {
  return sent.get(url);
}

const NAMELESS = "file"; // what the server calls a file at its URL that has no name

/** Return what a file is called. */
export function nameOf(url: string): string {
  if (/^data:/i.test(url)) return "in the input itself";
  const known = sent.get(url)?.name;
  if (known || !URL.canParse(url, location.href)) return known ?? url;
  const { pathname, host } = new URL(url, location.href);
  const last = pathname.split("/").at(-1);
  return last === NAMELESS && isOwn(url) ? "unnamed" : last ? decoded(last) : host;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // it has a % of its own
  }
}
