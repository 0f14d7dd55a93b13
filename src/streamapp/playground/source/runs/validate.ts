/** Check a form's data. Interpreted: a validator that compiles schemas would need `unsafe-eval`. */

import { type OutputUnit, Validator } from "@cfworker/json-schema";
import {
  type ErrorSchema, ErrorSchemaBuilder, type Experimental_DefaultFormStateBehavior, type RJSFSchema, type RJSFValidationError, type ValidatorType,
} from "@rjsf/utils";
import { stringifyJson } from "streamapp-client";

import type { MediaField } from "./schema";

/** How a form fills what is not given: a list of files that needs some begins empty all the same. */
export const FILLING: Experimental_DefaultFormStateBehavior = {
  arrayMinItems: { computeSkipPopulate: (_, { items }: RJSFSchema) => (items as Partial<MediaField> | undefined)?.media !== undefined },
};

// They only repeat what is said of a part.
const CONTAINERS: ReadonlySet<string> = new Set(["properties", "items", "additionalItems", "additionalProperties", "$ref", "allOf"]);

const ZONED = /"(date-time|time)"\.$/; // they want a time zone, Python does not

/** The validator that the form library calls. */
export const validator: ValidatorType = {
  validateFormData(data, schema) {
    const errors = check(schema, data, schema).map(toFieldError);
    return { errors, errorSchema: placed(errors.map(({ params, message = "" }) => ({ path: params.path, message }))) };
  },
  isValid: (schema, data, root) => check(schema, data, root).length === 0,
  rawValidation: <Result>(schema: RJSFSchema, data: unknown) => ({ errors: check(schema, data, schema) as Result[] }),
};

function check(schema: RJSFSchema, data: unknown, root: RJSFSchema): OutputUnit[] {
  // The validator writes into the schema, and knows neither `undefined` nor BigInts.
  const own = JSON.parse(stringifyJson({ ...schema, $defs: root.$defs ?? {} }), (_, part) => (part?.isOptional === true ? orNull(part) : part));
  const { errors } = new Validator(own as object, "7", false).validate(plain(data ?? {}));
  return decided(errors).filter(({ keyword, error }) => !CONTAINERS.has(keyword) && !(keyword === "format" && ZONED.test(error)));
}

/** What it is besides, defaults and links may say that it is not given. */
function orNull({ type, enum: choices, ...rest }: Record<string, any>) {
  return { ...rest, ...(type && { type: [type, "null"].flat() }), ...(choices && { enum: [...choices, null] }) };
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
  const message = wordsFor(keyword, error);
  return { name: keyword, message, params: { path: property }, property: `.${property.join(".")}`, stack: `${property.join(" / ")}: ${message}` };
}

/** Put errors where the form looks for them; the library's own would divide a name that has a dot. */
export function placed(errors: { path: (string | number)[]; message: string }[]): ErrorSchema {
  const builder = new ErrorSchemaBuilder();
  for (const { path, message } of errors) builder.addErrors(message, path);
  return builder.ErrorSchema;
}

/** Say what to do; what the validator says is for those who write schemas. */
function wordsFor(keyword: string, error: string): string {
  const [limit = ""] = /-?\d[\d.e+-]*(?=\)?\.$)/.exec(error) ?? [];
  const [, kind = ""] = /Expected "(\w+)"\.$/.exec(error) ?? [];
  return WORDS[keyword]?.(limit) ?? KINDS[kind] ?? error;
}

const WORDS: Record<string, (limit: string) => string> = {
  required: () => "This field is required.",
  minLength: (n) => `Write at least ${n} ${n === "1" ? "character" : "characters"}.`,
  maxLength: (n) => `Write at most ${n} characters.`,
  minimum: (n) => `It has to be at least ${n}.`,
  maximum: (n) => `It has to be at most ${n}.`,
  exclusiveMinimum: (n) => `It has to be more than ${n}.`,
  exclusiveMaximum: (n) => `It has to be less than ${n}.`,
  multipleOf: (n) => `It has to be a multiple of ${n}.`,
  minItems: (n) => `Add at least ${n}.`,
  maxItems: (n) => `Keep at most ${n}.`,
  pattern: () => "This does not have the form that is asked for.",
  uniqueItems: () => "Each may be there only once.",
  enum: () => "Choose one from the list.",
  const: () => "Choose one from the list.",
  anyOf: () => "This fits none of the options.",
  oneOf: () => "This fits none of the options.",
};
const KINDS: Record<string, string> = {
  integer: "Write a whole number.",
  number: "Write a number.",
  string: "Write some text.",
  boolean: "Choose yes or no.",
};
