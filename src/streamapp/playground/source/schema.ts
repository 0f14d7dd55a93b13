/** Read the server's OpenAPI document: which endpoints there are, and a form's schema for each. */

import type { RJSFSchema } from "@rjsf/utils";
import { stringifyJson } from "streamapp-client";

/** What an endpoint is sent: its fields, or, where it says none, any JSON. */
export type Input = unknown;
export type Fields = Record<string, unknown>;

/** One endpoint that can be run from the page. */
export interface Endpoint {
  /** Where it is, from the server's root; may hold `{parameters}`. */
  path: string;
  /** The app's name. */
  app: string;
  description: string;
  /** "response": the endpoint answers in a way of its own. "socket": a WebSocket of which only the app knows what is said. */
  kind: "stream" | "unary" | "response" | "session" | "socket";
  /** The names of what goes into the path or the query, not into the body. */
  parameters: { name: string; in: "path" | "query" }[];
  schema: RJSFSchema;
  /** Whether it takes JSON of any kind, for which there is no form. */
  isRaw: boolean;
}

/** What a file field takes. */
export type MediaKind = "image" | "audio" | "video" | "file";

type Schema = Record<string, any>;

/** Where fal's documents say that a path is a WebSocket's. */
const PROTOCOL = "x-fal-protocol";
/** What makes a schema one of fields. */
const FIELDS = ["properties", "additionalProperties", "anyOf", "oneOf", "allOf", "$ref"];

/** What an app says of itself; the description is Markdown. */
export interface About {
  title: string;
  description: string;
}

/** Return what the apps of an OpenAPI document say of themselves, by their names. */
export function aboutsOf({ tags = [] }: Schema): Record<string, About> {
  return Object.fromEntries(tags.map(({ name, summary = name, description = "" }: Schema) => [name, { title: summary, description }]));
}

/** List the endpoints of an OpenAPI document of streamapp. */
export function endpointsOf(document: Schema): Endpoint[] {
  const definitions = document.components?.schemas ?? {};
  return Object.entries<Schema>(document.paths)
    .filter(([path, { post, [PROTOCOL]: protocol }]) => (post || protocol) && !path.startsWith("/jobs/") && !isSignalling(path, document))
    .map(([path, { post, get, [PROTOCOL]: protocol }]) => endpointOf(path, protocol ? get : post, protocol, definitions));
}

/** Where a session is offered by WebRTC is no endpoint of its own. */
function isSignalling(path: string, { paths }: Schema): boolean {
  const session = path.slice(0, -"/webrtc".length) || "/";
  return path.endsWith("/webrtc") && PROTOCOL in (paths[session] ?? {});
}

/** `protocol` is there for what a WebSocket opens. */
function endpointOf(path: string, operation: Schema, protocol: Schema | undefined, definitions: Schema): Endpoint {
  const kind = protocol ? (protocol.type === "realtime" ? "session" : "socket") : kindOf(operation.responses["200"].content ?? {});
  const parameters = (operation.parameters ?? []).filter((parameter: Schema) => ["path", "query"].includes(parameter.in));
  const form = new FormSchema(definitions);
  const given: Schema | undefined = protocol ? protocol.input : operation.requestBody?.content["application/json"].schema;
  const body = form.of(given ?? {}, "");
  const schema = {
    ...body,
    title: "",
    description: "",
    type: "object",
    required: [...parameters.filter((p: Schema) => p.required).map((p: Schema) => p.name), ...(body.required ?? [])],
    properties: { ...Object.fromEntries(parameters.map((p: Schema) => [p.name, form.of(p.schema, p.name)])), ...body.properties },
  } as RJSFSchema;
  const isRaw = given !== undefined && !parameters.length && !FIELDS.some((word) => word in body);
  return { path, app: operation.tags?.[0] ?? "", description: operation.description ?? "", kind, parameters, schema, isRaw };
}

function kindOf(answers: Schema): Endpoint["kind"] {
  return "text/event-stream" in answers ? "stream" : "application/json" in answers ? "unary" : "response";
}

/**
 * Turn pydantic's schemas into what people can fill in.
 *
 * References are put in place, `X | None` becomes an optional X, unless it is an object, which no empty field could
 * stand for, media become strings with `media`, which hold a URL, a required field without a default begins with its
 * first example, and bounds that no number can hold exactly are rounded.
 */
class FormSchema {
  #definitions: Schema;
  #recursive: Schema = {};
  #open: string[] = [];

  constructor(definitions: Schema) {
    this.#definitions = definitions;
  }

  /** Return the schema for the form's root. */
  of(schema: Schema, name: string): Schema {
    const made = this.#make(schema, name);
    return Object.keys(this.#recursive).length ? { ...made, $defs: this.#recursive } : made;
  }

  #make(schema: Schema, name: string): Schema {
    if (schema.$ref) return this.#resolve(schema, name);
    if (schema.ui?.field in { image: 1, audio: 1, video: 1, file: 1 }) return mediaField(schema, name);
    const options: Schema[] = schema.anyOf ?? [];
    if (options.length > 1 && options.every(isChoice)) {
      const { anyOf, ...rest } = schema;
      return this.#parts({ title: humanise(name), ...rest, type: options[0]!.type, enum: options.flatMap(choicesOf) });
    }
    const [only, ...others] = options.filter((option) => option.type !== "null");
    if (only && !others.length && options.length === 2 && "default" in schema) {
      const { anyOf, default: preset, title = humanise(name), ...rest } = schema;
      const made = this.#make({ ...only, title, ...rest, ...(preset !== null && { default: preset }) }, name);
      if (!made.properties && !made.$ref) return made;
    }
    return this.#parts({ ...(name && { title: humanise(name) }), ...schema });
  }

  #resolve({ $ref, ...own }: Schema, name: string): Schema {
    const key = $ref.split("/").at(-1);
    if (!this.#open.includes(key)) {
      this.#open.push(key);
      const made = this.#make({ ...this.#definitions[key], title: humanise(name) || key, ...own }, name);
      this.#open.pop();
      return made;
    }
    if (!(key in this.#recursive)) {
      this.#recursive[key] = {};
      this.#recursive[key] = this.#make(this.#definitions[key], key);
    }
    return { $ref: `#/$defs/${key}`, ...own };
  }

  #parts(schema: Schema): Schema {
    const made: Schema = rounded(schema);
    if (schema.properties) {
      made.properties = Object.fromEntries(
        Object.entries<Schema>(schema.properties).map(([name, part]) => {
          const isRequired = schema.required?.includes(name);
          return [name, begun(this.#make(part, name), isRequired)];
        }),
      );
    }
    if (schema.prefixItems) {
      made.items = schema.prefixItems.map((part: Schema) => this.#make(part, ""));
      delete made.prefixItems;
    } else if (schema.items) made.items = this.#make(schema.items, "");
    if (typeof schema.additionalProperties === "object") made.additionalProperties = this.#make(schema.additionalProperties, "");
    for (const word of ["anyOf", "oneOf"]) {
      if (schema[word]) made[word] = schema[word].map((part: Schema) => titled(this.#make(part, ""), schema));
    }
    return made;
  }
}

/** Say whether a schema is one of some texts: `Literal["auto"] | Format` is two of these, and one list to choose from. */
function isChoice({ type, const: only, enum: several }: Schema): boolean {
  return type === "string" && (only ?? several) !== undefined;
}

function choicesOf({ const: only, enum: several }: Schema): string[] {
  return several ?? [only];
}

const BOUNDS = { minimum: "minimum", exclusiveMinimum: "minimum", maximum: "maximum", exclusiveMaximum: "maximum", multipleOf: "multipleOf" };

/** Round bounds beyond 2^53, and exclude none of what is rounded as they are: only the server compares exactly. */
function rounded(schema: Schema): Schema {
  const parts = Object.entries(schema).map(([word, value]) => {
    const isBound = word in BOUNDS && typeof value === "bigint";
    return isBound ? [BOUNDS[word as keyof typeof BOUNDS], Number(value)] : [word, value];
  });
  return Object.fromEntries(parts);
}

/** Titles that are those of types, and say nothing of the field. */
const MEDIA = ["Image", "Audio", "Video", "File", "LargeFile", "CompressedFile"];

function mediaField(schema: Schema, name: string): Schema {
  const title = MEDIA.includes(schema.title) ? humanise(name) || schema.title : schema.title;
  return { type: "string", media: schema.ui.field, title, description: schema.description };
}

function begun(schema: Schema, isRequired: boolean): Schema {
  const isOpen = isRequired && schema.default === undefined && schema.examples?.length;
  return isOpen ? { ...schema, default: schema.examples[0] } : schema;
}

function titled(option: Schema, parent: Schema): Schema {
  if (option.type === "null") return { ...option, title: "none" };
  return option.title && option.title !== parent.title ? option : { ...option, title: option.type ?? "other" };
}

/** Write a name as pydantic writes titles. */
function humanise(name: string): string {
  return name.replace(/_/g, " ").replace(/\b\w/g, (letter) => letter.toUpperCase());
}

/** Say whether an input can be one of this endpoint's: a link, or what a browser has kept, may hold anything. */
export function fits({ isRaw }: Endpoint, input: Input): boolean {
  return isRaw || isRecord(input);
}

/** Say whether a value is a JSON object. */
export function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Leave out what is only the schema's default: for links and code to copy. */
export function givenOnly({ schema, isRaw }: Endpoint, input: Input): Input {
  if (isRaw) return input;
  const presets = (schema.properties ?? {}) as Record<string, Schema>;
  const required = schema.required ?? [];
  return Object.fromEntries(
    Object.entries(input as Fields).filter(
      ([name, value]) =>
        value !== undefined && (required.includes(name) || stringifyJson(value) !== stringifyJson(presets[name]?.default)),
    ),
  );
}

/** Split an input into the URL path, with its query, and the body. */
export function addressed({ path, parameters, isRaw }: Endpoint, input: Input): { path: string; body: Input } {
  if (isRaw) return { path, body: input };
  const body = { ...(input as Fields) };
  const query = new URLSearchParams();
  for (const { name, in: place } of parameters) {
    if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(String(body[name])));
    else if (body[name] !== undefined) query.set(name, String(body[name]));
    delete body[name];
  }
  return { path: query.size ? `${path}?${query}` : path, body };
}
