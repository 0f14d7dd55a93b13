/** What to begin with: inputs that an endpoint's author shows as examples, and how each of them looks on a card. */

import { stringifyJson } from "streamapp-client";

import { isOwn } from "../runs/content";
import { initialInput } from "../runs/desk";
import type { Past } from "../runs/history";
import { type Endpoint, type Fields, fieldsOf, givenOnly, humanise, type Input, isRecord, type Schema } from "../runs/schema";
import { storedAs } from "./uses";

export interface Example {
  /** The whole input. */
  input: Input;
  /** What is mainly asked for. */
  words: string;
  /** The other values that are not as the form begins. */
  facts: string[];
  /** What has come of it before, or what goes in. */
  picture: string | undefined;
}

const MOST = 6;
const MOST_FACTS = 3;
const MOST_LETTERS = 24; // of a fact
const MAIN = /prompt|text|message|question|query|scene|story|lyrics|content|input/i;

/** Return the examples of an endpoint: whole ones, or such as the examples of its fields make together. */
export function examplesOf(endpoint: Endpoint, pasts: Past[]): Example[] {
  const begun = initialInput(endpoint);
  return givenIn(endpoint).slice(0, MOST).map((given) => {
    const input = endpoint.isRaw ? given : { ...(begun as Fields), ...(given as Fields) };
    const same = pasts.find((past) => past.path === endpoint.path && past.status === "succeeded" && past.picture && isSame(endpoint, past.input, input));
    return { input, ...lookOf(endpoint, given, begun), picture: same?.picture ?? mediaIn(endpoint, given) };
  });
}

/** Say whether two inputs ask for the same. */
export function isSame(endpoint: Endpoint, one: Input, other: Input): boolean {
  const written = (input: Input) => {
    const given = endpoint.isRaw || !isRecord(input) ? input : givenOnly(endpoint, input);
    const sorted = (fields: Fields) => Object.entries(fields).map(([name, value]) => [name, storedAs(value)] as const).sort(([a], [b]) => (a < b ? -1 : 1));
    return stringifyJson(isRecord(given) ? sorted(given) : given);
  };
  return written(one) === written(other);
}

function givenIn(endpoint: Endpoint): Input[] {
  if (endpoint.examples.length || endpoint.isRaw) return endpoint.examples;
  const fields = Object.entries(fieldsOf(endpoint)).filter(([, field]) => field.examples?.length);
  const count = Math.max(0, ...fields.map(([, field]) => field.examples.length));
  return Array.from({ length: count }, (_, n) => Object.fromEntries(fields.map(([name, field]) => [name, field.examples[n % field.examples.length]])));
}

function lookOf(endpoint: Endpoint, given: Input, begun: Input): Pick<Example, "words" | "facts"> {
  if (!isRecord(given)) return { words: stringifyJson(given), facts: [] };
  const fields = fieldsOf(endpoint);
  const entries = Object.entries(given).filter(([name]) => !fields[name]?.media);
  const texts = entries.flatMap(([name, value]) => {
    const text = spoken(value);
    return text ? [{ name, text }] : [];
  });
  const main = texts.find(({ name }) => MAIN.test(name)) ?? texts.find(({ name }) => !fields[name]?.enum);
  const isTold = ([name, value]: [string, unknown]) => name !== main?.name && stringifyJson(value) !== stringifyJson((begun as Fields)[name]);
  const told = entries.filter(isTold);
  const facts = factsOf(told, fields);
  return main ? { words: main.text, facts: facts.slice(0, MOST_FACTS) } : { words: facts.join(", ") || "Default settings", facts: [] };
}

/** Return what a value says: a text, or the newest message of a conversation. */
function spoken(value: unknown): string {
  if (typeof value === "string") return /^(data|https?):/.test(value) ? "" : value;
  const last = Array.isArray(value) ? value.at(-1) : undefined;
  return isRecord(last) && typeof last.content === "string" ? last.content : "";
}

function factsOf(entries: [string, unknown][], fields: Record<string, Schema>): string[] {
  const { width, height } = Object.fromEntries(entries);
  const isSized = typeof width === "number" && typeof height === "number";
  const others = entries.filter(([name]) => !isSized || (name !== "width" && name !== "height"));
  return [...(isSized ? [`${width}×${height}`] : []), ...others.flatMap(([name, value]) => factOf(fields[name]?.title ?? humanise(name), value))];
}

function factOf(title: string, value: unknown): string[] {
  if (typeof value === "boolean") return [value ? title : `No ${title.toLowerCase()}`];
  if (typeof value === "number" || typeof value === "bigint") return [`${title} ${value}`];
  return typeof value === "string" && value && value.length < MOST_LETTERS ? [`${title} ${value}`] : [];
}

/** Return the picture that goes in. */
function mediaIn(endpoint: Endpoint, given: Input): string | undefined {
  const fields = fieldsOf(endpoint);
  const urls = Object.entries(isRecord(given) ? given : {}).filter(([name]) => fields[name]?.media === "image").map(([, value]) => value);
  return urls.find((url): url is string => typeof url === "string" && isOwn(url));
}
