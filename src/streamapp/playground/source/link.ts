/** Read and write the part of the page's URL that says what it shows. */

import { parseJson, stringifyJson } from "streamapp-client";

export type Place = { kind: "job"; jobId: string } | { kind: "input"; path: string; input: Record<string, unknown> };

/** Read `#/jobs/{id}` or `#/{path}?input={json}`; undefined when it is neither. */
export function placeOf(hash: string): Place | undefined {
  const job = /^#\/jobs\/([0-9a-f]{32})$/.exec(hash);
  if (job) return { kind: "job", jobId: job[1]! };
  const [path, query] = hash.slice(1).split("?", 2);
  if (!path?.startsWith("/")) return undefined;
  try {
    const input = parseJson(new URLSearchParams(query).get("input") ?? "{}");
    return { kind: "input", path: decodeURI(path), input };
  } catch {
    return undefined; // written by hand, and wrongly
  }
}

/** Return the link to a running job. */
export function jobLink(jobId: string): string {
  return linkTo(`#/jobs/${jobId}`);
}

/** Return the link to an endpoint with its inputs filled in. */
export function inputLink(path: string, input: Record<string, unknown>): string {
  return linkTo(`#${encodeURI(path)}?${new URLSearchParams({ input: stringifyJson(input) })}`);
}

function linkTo(hash: string): string {
  return location.origin + location.pathname + hash;
}
