/** Make the inputs of the next run from those of a run. */

import { drawn, isSeed, seedsOf } from "../form/seed";
import { seedOf } from "../runs/history";
import type { Run } from "../runs/run";
import { type Fields, fieldsOf, type Input } from "../runs/schema";

/** Say whether it can be run again: by this page, and with an input that it knows. */
export function isRepeatable(run: Run | undefined): run is Run {
  return run?.endpoint !== undefined && run.endpoint.kind !== "session" && run.input !== undefined;
}

/** Return the input of a run, with the seed that the server drew for it. */
export function again({ endpoint, input, result }: Run): Input {
  const seed = endpoint!.schema.properties?.seed && seedOf(result);
  const given = input as Fields;
  return seed !== undefined && given.seed === undefined ? { ...given, seed } : input;
}

/** Return what gives the input another seed, exact to the last of its 64 bits; undefined where it has no field for one. */
export function varying({ endpoint, input }: Run): (() => Input) | undefined {
  const fields = Object.entries(fieldsOf(endpoint!));
  const [name, schema] = fields.find(([name, schema]) => schema.type === "integer" && isSeed({ name, schema })) ?? [];
  const seeds = schema && seedsOf(schema);
  if (!seeds) return undefined;
  return () => {
    const seed = drawn(seeds);
    return { ...(input as Fields), [name!]: Number.isSafeInteger(Number(seed)) ? Number(seed) : seed };
  };
}
