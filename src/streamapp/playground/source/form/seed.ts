/** Throw dice for seeds, exactly up to 64 bits. */

import type { RJSFSchema, WidgetProps } from "@rjsf/utils";

import type { Schema } from "../runs/schema";

const MOST = 2 ** 32 - 1; // what every library takes for a seed

/** Say whether a field of integers is a seed: by its name, as fal does. */
export function isSeed({ name, schema }: Pick<WidgetProps, "name" | "schema">): boolean {
  return /seed$/i.test(name) || (schema as Schema).ui?.field === "seed";
}

/** Return the smallest and the largest seed of a field; undefined where it has none that is surely right. */
export function seedsOf({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }: RJSFSchema): [bigint, bigint] | undefined {
  const least = minimum ?? (exclusiveMinimum === undefined ? 0 : Number(exclusiveMinimum) + 1);
  const most = maximum ?? (exclusiveMaximum === undefined ? Math.max(MOST, least + MOST) : Number(exclusiveMaximum) - 1);
  const low = BigInt(Math.ceil(least)) + slack(least);
  const high = BigInt(Math.floor(most)) - slack(most);
  return low <= high ? [low, high] : undefined;
}

/** Bounds beyond 2^53 were rounded: stay away from them by as much as that can have been. */
function slack(bound: number): bigint {
  return Number.isSafeInteger(Math.trunc(bound)) ? 0n : BigInt(Math.abs(bound)) / 2n ** 52n;
}

/** Return one of the integers from `low` to `high`, each as likely as the others. */
export function drawn([low, high]: [bigint, bigint]): bigint {
  const [a, b] = crypto.getRandomValues(new BigUint64Array(2)) as unknown as [bigint, bigint];
  return low + (((a << 64n) | b) % (high - low + 1n)); // of 128 bits: what the remainder favours nobody can measure
}
