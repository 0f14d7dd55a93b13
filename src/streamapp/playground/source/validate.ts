/** Check a form's data. Interpreted: a validator that compiles schemas would need `unsafe-eval`. */

import { type OutputUnit, Validator } from "@cfworker/json-schema";
import { type RJSFSchema, type RJSFValidationError, toErrorSchema, type ValidatorType } from "@rjsf/utils";
import { stringifyJson } from "streamapp-client";

// They only repeat what is said of a part.
const CONTAINERS: ReadonlySet<string> = new Set(["properties", "items", "additionalItems", "additionalProperties", "$ref", "allOf"]);

/** The validator that the form library calls. */
export const validator: ValidatorType = {
  validateFormData(data, schema) {
    const errors = check(schema, data, schema).map(toFieldError);
    return { errors, errorSchema: toErrorSchema(errors) };
  },
  isValid: (schema, data, root) => check(schema, data, root).length === 0,
  rawValidation: <Result>(schema: RJSFSchema, data: unknown) => ({ errors: check(schema, data, schema) as Result[] }),
};

function check(schema: RJSFSchema, data: unknown, root: RJSFSchema): OutputUnit[] {
  // The validator writes into the schema, and knows neither `undefined` nor BigInts.
  const own = plain({ ...schema, $defs: root.$defs ?? {} });
  const { errors } = new Validator(own as object, "7", false).validate(plain(data ?? {}));
  return decided(errors).filter(({ keyword }) => !CONTAINERS.has(keyword));
}

/** Copy what JSON holds; an integer beyond 2^53 is rounded. */
function plain(value: unknown): unknown {
  return JSON.parse(stringifyJson(value));
}

/** Of several schemas, none of which fits, tell what is wrong by the one that is meant; else, only that none fits. */
function decided(errors: OutputUnit[]): OutputUnit[] {
  const choice = errors.find(({ keyword }) => keyword === "anyOf" || keyword === "oneOf");
  if (!choice) return errors;
  const below = (location: string) => errors.filter(({ keywordLocation }) => keywordLocation.startsWith(`${location}/`));
  const inside = below(choice.keywordLocation);
  const depth = choice.keywordLocation.split("/").length;
  const options = [...new Set(inside.map(({ keywordLocation }) => keywordLocation.split("/").slice(0, depth + 1).join("/")))];
  const meant = options.map(below).filter((all) => !all.some(isOtherKind));
  const others = decided(errors.filter((error) => error !== choice && !inside.includes(error)));
  return [...others, ...(meant.length === 1 ? decided(meant[0]!) : [choice])];
}

function isOtherKind({ keyword }: OutputUnit): boolean {
  return keyword === "type" || keyword === "const";
}

function toFieldError({ keyword, instanceLocation, error }: OutputUnit): RJSFValidationError {
  const missing = keyword === "required" ? /"(.+)"/.exec(error)?.[1] : undefined;
  const nameOf = (part: string) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
  const path = instanceLocation.split("/").slice(1).map(nameOf);
  const property = [...path, ...(missing === undefined ? [] : [missing])];
  const message = missing === undefined ? error : "This field is required.";
  return { name: keyword, message, property: `.${property.join(".")}`, stack: `${property.join(" / ")}: ${message}` };
}
