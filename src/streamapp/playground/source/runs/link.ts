/** Read and write the part of the page's URL that says what it shows. */

import { parseJson, stringifyJson } from "streamapp-client";

import type { Input } from "./schema";

/** What a job's id looks like. */
export const JOB_ID = /^[0-9a-f]{32}$/;

export type Place =
  | { kind: "job"; jobId: string }
  | { kind: "input"; path: string; input: Input }
  | { kind: "wrong"; why: string };

/** Read `#/jobs/{id}` or `#/{path}?input={json}`; undefined when there is nothing to read. */
export function placeOf(hash: string): Place | undefined {
  if (hash.length < 2) return undefined;
  const [, jobId] = /^#\/jobs\/([^?]*)$/.exec(hash) ?? [];
  if (jobId !== undefined) {
    return JOB_ID.test(jobId) ? { kind: "job", jobId } : wrong(`No run has the id "${jobId}": an id is 32 digits and letters from a to f.`);
  }
  const [path, query] = hash.slice(1).split("?", 2);
  if (!path?.startsWith("/")) return wrong(`This page does not know what "${hash}" is.`);
  try {
    const input = parseJson(new URLSearchParams(query).get("input") ?? "{}");
    return { kind: "input", path: decodeURI(path), input };
  } catch {
    return wrong("The link cannot be read: its input has to be JSON."); // written by hand, or cut off
  }
}

function wrong(why: string): Place {
  return { kind: "wrong", why };
}

/** Return the link to a running job. */
export function jobLink(jobId: string): string {
  return linkTo(`#/jobs/${jobId}`);
}

/** Return the link to an endpoint with its inputs filled in. */
export function inputLink(path: string, input: Input): string {
  return linkTo(`#${encodeURI(path)}?${new URLSearchParams({ input: stringifyJson(input) })}`);
}

/** Let the address say what is shown; some browsers refuse that when it changes often, or is very long. */
export function setAddress(link: string): void {
  try {
    history.replaceState(null, "", link);
  } catch {
    // the page is as good without
  }
}

function linkTo(hash: string): string {
  return location.origin + location.pathname + hash;
}
