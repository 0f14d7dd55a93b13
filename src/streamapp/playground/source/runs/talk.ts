/** Tell which endpoints hold a conversation, and write what is said next into their input. */

import type { RJSFSchema } from "@rjsf/utils";

import { textIn } from "./choices";
import type { Run } from "./run";
import { type Endpoint, type Fields, fieldsOf, type Input, isRecord, type Schema } from "./schema";
import type { Choice } from "./words";

/** One message; an app may have keys of its own in it. */
export type Message = Fields;

/** Where the conversation stands in an endpoint's input. */
export interface Talk {
  /** The field that lists the messages; a session remembers them itself. */
  list: string | undefined;
  /** The field of the newest message, where it is not the last of the list. */
  words: string | undefined;
  user: string;
  assistant: string;
  /** Whether a message may hold pictures. */
  takesImages: boolean;
  /** Whether a message may say which tools were called. */
  keepsCalls: boolean;
}

const LISTS = /^(messages|conversation|history|chat_history|turns)$/i;
const WORDS = ["message", "prompt", "question", "query", "text", "input", "content"];
const ROLES = ["system", "user", "assistant"];

/** Say whether a field is a list of messages: its schema, or its name, says so. */
export function isConversation({ type, items }: RJSFSchema, name: string): boolean {
  if (type !== "array" || !isRecord(items)) return false;
  const kinds = kindsOf(items);
  const isNamed = LISTS.test(name) && kinds.every(isUntyped);
  return isNamed || kinds.every(({ properties, required = [] }) => properties?.role && properties.content && required.every(isCommon));
}

function isUntyped({ type, properties, enum: several }: Schema): boolean {
  return type === "object" && !properties && !several;
}

function isCommon(name: string): boolean {
  return name === "role" || name === "content";
}

/** Return the schemas that a message may have. */
function kindsOf(items: Schema): Schema[] {
  return items.anyOf ?? items.oneOf ?? [items];
}

/** Return the roles that a message may have. */
export function rolesOf(items: Schema): string[] {
  const roles = kindsOf(items).flatMap(({ properties }) => properties?.role?.enum ?? properties?.role?.const ?? []);
  return roles.length ? roles : ROLES;
}

/** Return the further texts that a message may have, a name for one. */
export function extrasOf(items: Schema): [string, Schema][] {
  const { properties = {} } = kindsOf(items)[0]!;
  return Object.entries<Schema>(properties).filter(([name, { type, enum: several }]) => !isCommon(name) && type === "string" && !several);
}

/** Say whether the content of a message may be a list of parts. */
export function takesParts(items: Schema): boolean {
  return kindsOf(items).some((kind) => {
    const { properties, additionalProperties } = kind;
    if (!properties) return !isRecord(additionalProperties) || additionalProperties.type === undefined;
    const { content } = properties;
    return (content?.anyOf ?? content?.oneOf ?? [content ?? {}]).some(({ type }: Schema) => type === "array" || type === undefined);
  });
}

/** Return who speaks next: people and the model take turns. */
export function nextRole(roles: string[], before: string | undefined): string {
  const [user, assistant] = sides(roles);
  return before === user ? assistant : user;
}

function sides(roles: string[]): [string, string] {
  const user = roles.find((role) => /^(user|human)$/i.test(role)) ?? "user";
  return [user, roles.find((role) => /^(assistant|ai|model|bot|gpt)$/i.test(role)) ?? "assistant"];
}

/** Return where an endpoint's input holds a conversation; undefined where it holds none. */
function talkOf(endpoint: Endpoint): Talk | undefined {
  const { kind, isRaw } = endpoint;
  const fields = fieldsOf(endpoint);
  if (isRaw || kind === "socket") return undefined;
  const found = Object.entries(fields).find(([name, field]) => isConversation(field, name));
  const isText = (name: string) => fields[name]?.type === "string";
  const words = WORDS.find(isText);
  if (!found && (kind !== "session" || !words)) return undefined;
  const [list, field] = found ?? [];
  const isBefore = list === undefined || !/^(messages|conversation)$/i.test(list);
  const items: Schema = field?.items ?? {};
  const [user, assistant] = sides(rolesOf(items));
  return {
    list, words: isBefore ? words : undefined, user, assistant,
    takesImages: field !== undefined && takesParts(items),
    keepsCalls: !items.properties || "tool_calls" in items.properties,
  };
}

/** Return where a conversation stands that is to be shown; that a session is one its first answer shows. */
export function talkIn(endpoint: Endpoint, run: Run | undefined): Talk | undefined {
  const talk = talkOf(endpoint);
  const isShown = talk?.list !== undefined || (run && run.results.size === 0 && run.said.some(({ isEmpty }) => !isEmpty));
  return isShown ? talk : undefined;
}

/** Return the messages of an input, and what its newest one says where that has a field of its own. */
export function messagesIn({ list, words, user }: Talk, input: Input): Message[] {
  if (!isRecord(input)) return [];
  const listed = list === undefined ? [] : input[list];
  const before = Array.isArray(listed) ? listed.filter(isRecord) : [];
  return words === undefined || !input[words] ? before : [...before, { role: user, content: input[words] }];
}

/** Return the input that says `content` behind these messages, instead of what was `left` without an answer. */
export function inputWith({ list, words, user }: Talk, input: Input, before: Message[], content: unknown, left: Message | undefined): Fields {
  const given = isRecord(input) ? input : {};
  if (words !== undefined) return { ...given, ...(list !== undefined && { [list]: before }), [words]: textIn(content) };
  const name = before.findLast(({ role }) => role === user)?.name;
  const said = left ?? { role: user, ...(name !== undefined && { name }) };
  return { ...given, [list!]: [...before, { ...said, content }] };
}

/** Write an answer as a message. */
export function messageOf({ assistant, keepsCalls }: Talk, { text, calls }: Choice): Message {
  const called = calls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } }));
  return { role: assistant, content: text, ...(keepsCalls && called.length > 0 && { tool_calls: called }) };
}

/** Return a content with further words: the text itself, or that of its first part that is one. */
export function withText(content: unknown, text: string): unknown {
  if (!Array.isArray(content)) return text;
  const at = content.findIndex((part) => typeof part?.text === "string");
  return at < 0 ? [{ type: "text", text }, ...content] : content.with(at, { ...content[at], text });
}

/** Return a content with one more picture. */
export function withImage(content: unknown, url: string): unknown[] {
  const before = Array.isArray(content) ? content : [{ type: "text", text: content ?? "" }];
  return [...before, { type: "image_url", image_url: { url } }];
}

/** Return a content without one of its parts; a single text that is left stands for itself. */
export function withoutPart(content: unknown[], place: number): unknown {
  const [only, ...others] = content.toSpliced(place, 1) as any[];
  return only?.type === "text" && !others.length && Object.keys(only).length === 2 ? only.text : content.toSpliced(place, 1);
}

/** Return where the picture of a part is; undefined where it is none. */
export function pictureOf(part: any): string | undefined {
  const url = part?.image_url?.url ?? part?.image_url ?? (/image/.test(part?.type) ? (part.image ?? part.url) : undefined);
  return typeof url === "string" ? url : undefined;
}
