/** Decide what of a form is seen at once, and what stands under "Additional settings". */

import type { RJSFSchema } from "@rjsf/utils";
import { stringifyJson } from "streamapp-client";

import type { Fields, Schema } from "../runs/schema";
import { isConversation } from "../runs/talk";
import { pairOf } from "./sizes";

const FEW = 3; // fields that are seen at a glance, and so need no fold
const LONG_TEXT = 200;
/** How apps name what they are mainly asked for; the first that an endpoint has is its. */
const MAIN = [
  /^((positive|text|input|user)_)?prompt(_text)?$/,
  /^((input|gen|tts|source|target)_)?text(_input)?$/,
  /^(question|query|instructions?|message|inputs?|content|lyrics|script|story|scene|topic|sentence)$/,
];

/** The names of fields, in the order in which they stand. */
export interface Arrangement {
  /** What the app is mainly asked for, if there is such a field; it comes first. */
  main: string | undefined;
  seen: string[];
  /** Empty where a fold would be of no use. */
  folded: string[];
}

/** Put what is mainly asked for first; fold what can be left alone. */
export function arrange({ properties = {}, required = [] }: RJSFSchema): Arrangement {
  const fields = Object.entries(properties as Record<string, RJSFSchema>).filter(([, schema]) => isShown(schema));
  const main = mainOf(fields, required);
  const all = fields.map(([name]) => name).sort((a, b) => Number(b === main) - Number(a === main));
  const isSeen = (name: string) => name === main || required.includes(name) || isTold(properties[name] as RJSFSchema, name);
  const [seen, folded] = [all.filter(isSeen), all.filter((name) => !isSeen(name))];
  return all.length <= FEW || !seen.length || folded.length < 2 ? { main, seen: all, folded: [] } : { main, seen, folded };
}

function mainOf(fields: [string, RJSFSchema][], required: string[]): string | undefined {
  const isAsked = ([, schema]: [string, RJSFSchema]) => isText(schema) || schema.anyOf !== undefined;
  const named = MAIN.flatMap((pattern) => fields.filter((field) => pattern.test(field[0]) && isAsked(field)));
  const talks = fields.filter(([name, schema]) => isConversation(schema, name));
  const texts = fields.filter(([name, schema]) => required.includes(name) && isText(schema));
  const long = texts.filter(([, { maxLength = 0 }]) => maxLength > LONG_TEXT);
  const [first] = [...named, ...talks, ...long, ...(texts.length === 1 ? texts : [])];
  return first?.[0];
}

/** Say whether there is anything to fill in: not where only one value is right, nor where the author hides it. */
export function isShown(schema: Schema): boolean {
  return schema.const === undefined && !schema.ui?.hidden;
}

function isText(schema: RJSFSchema): boolean {
  return schema.type === "string" && !schema.enum && !schema.format && !isMedia(schema);
}

function isMedia(schema: Schema): boolean {
  return (schema.media ?? schema.items?.media) !== undefined;
}

/** Say whether a field is one that people come with: a file, a conversation; or what its author calls important, as fal's do. */
function isTold(schema: RJSFSchema, name: string): boolean {
  return isMedia(schema) || isConversation(schema, name) || (schema as Schema).ui?.important === true;
}

/** Say whether a text is written in several lines. */
export function isLong({ maxLength = 0, format, title = "", ui }: Schema): boolean {
  return format === undefined && (maxLength > LONG_TEXT || /prompt/i.test(title) || ui?.field === "textarea");
}

/** Count the fields among `names` that are not as they begin; a width and a height that stand together are one. */
export function changesOf(schema: RJSFSchema, names: string[], input: Fields, presets: Fields): number {
  const isChanged = (name: string) => input[name] !== undefined && stringifyJson(input[name]) !== stringifyJson(presets[name] ?? null);
  const changed = names.filter(isChanged);
  return changed.length - (pairOf(schema)?.every((name) => changed.includes(name)) ? 1 : 0);
}
