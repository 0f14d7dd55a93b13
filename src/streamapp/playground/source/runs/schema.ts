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
  /** What its author calls it in code. */
  name: string;
  /** Its first sentence. */
  summary: string;
  description: string;
  /** "response": the endpoint answers in a way of its own. "socket": a WebSocket of which only the app knows what is said. */
  kind: "stream" | "unary" | "response" | "session" | "socket";
  /** The names of what goes into the path or the query, not into the body. */
  parameters: { name: string; in: "path" | "query" }[];
  schema: RJSFSchema;
  /** Whether it takes JSON of any kind, for which there is no form. */
  isRaw: boolean;
  /** The names of files that JSON cannot hold: with one of these the input goes as multipart/form-data. */
  uploads: string[];
  /** Whole inputs that its author shows. */
  examples: Input[];
  clients: Clients;
}

/** What clients of other protocols have to know to ask for an endpoint; of those that cannot, nothing. */
export interface Clients {
  openai?: { path: string; model: string };
  runpod?: { endpoint_id: string };
}

/** What a file field takes. */
export type MediaKind = "image" | "audio" | "video" | "file";

/** The schema of a file field. */
export interface MediaField {
  media: MediaKind;
  /** Of a mask: its name, and that of the image beside it on which it is painted. */
  mask?: { name: string; on: string };
  /** Whether the file goes as such: the page sends what it has, and no URL of elsewhere. */
  isSent?: boolean;
}

/** The schema of a list of files. */
export interface MediaList {
  items: MediaField;
  minItems?: number;
  maxItems?: number;
  default?: unknown[];
}

/** A JSON schema, of which anything may be true. */
export type Schema = Record<string, any>;

/** Where fal's documents say that a path is a WebSocket's. */
const PROTOCOL = "x-fal-protocol";
const CLIENTS = "x-streamapp-clients";
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

/** List the endpoints of the apps in an OpenAPI document of streamapp; what else the server has belongs to none. */
export function endpointsOf(document: Schema): Endpoint[] {
  const definitions = document.components?.schemas ?? {};
  const apps = aboutsOf(document);
  const isShown = (path: string, operation: Schema | undefined) => operation?.tags?.[0] in apps || isModels(path, document);
  return Object.entries<Schema>(document.paths)
    .filter(([path, { post, get, [PROTOCOL]: protocol }]) => isShown(path, protocol ? get : post) && !isSignalling(path, document))
    .map(([path, { post, get, [PROTOCOL]: protocol }]) => anyOrRead(path, protocol ? get : post, protocol, definitions))
    .map((endpoint) => (endpoint.app in apps ? endpoint : { ...endpoint, app: appOf(endpoint, apps) }))
    .filter(({ app, path }, _, all) => !all.some((other) => other.app === app && path === longPath(other)));
}

/** Say whether a path is one of OpenAI's where a language model answers that no endpoint of an app leads to. */
function isModels(path: string, { paths }: Schema): boolean {
  const asked = (one: string): string | undefined => paths[one].post?.[CLIENTS]?.openai?.path;
  return asked(path) === path && !Object.keys(paths).some((other) => other !== path && asked(other) === path);
}

function appOf({ clients }: Endpoint, apps: Record<string, About>): string {
  const model = clients.openai?.model ?? "";
  return model in apps ? model : Object.keys(apps)[0]!;
}

/** Return where an endpoint of the first of several apps is, too: below the app's name. */
export function longPath({ app, path }: Endpoint): string {
  return `/${app}${path}`.replace(/\/$/, "");
}

/** Where a session is offered by WebRTC is no endpoint of its own. */
function isSignalling(path: string, { paths }: Schema): boolean {
  const session = path.slice(0, -"/webrtc".length) || "/";
  return path.endsWith("/webrtc") && PROTOCOL in (paths[session] ?? {});
}

/** Read an endpoint; one whose schema somebody has written by hand, and not well, takes any JSON: it costs nobody the page. */
function anyOrRead(...[path, operation, protocol, definitions]: Parameters<typeof endpointOf>): Endpoint {
  try {
    return endpointOf(path, operation, protocol, definitions);
  } catch {
    const any = { content: { "application/json": { schema: {} } } };
    return endpointOf(path, { ...operation, requestBody: any }, protocol && { ...protocol, input: {} }, definitions);
  }
}

/** `protocol` is there for what a WebSocket opens. */
function endpointOf(path: string, operation: Schema, protocol: Schema | undefined, definitions: Schema): Endpoint {
  const kind = protocol ? (protocol.type === "realtime" ? "session" : "socket") : kindOf(operation.responses["200"].content ?? {});
  const parameters = (operation.parameters ?? []).filter((parameter: Schema) => ["path", "query"].includes(parameter.in));
  const form = new FormSchema(definitions);
  const given: Schema | undefined = protocol ? protocol.input : operation.requestBody?.content["application/json"].schema;
  const body = form.of(given ?? {}, "");
  const uploads = protocol ? [] : Object.keys(body.properties ?? {}).filter((name) => isUpload(body.properties[name]));
  for (const name of uploads) body.properties[name] = uploadField(body.properties[name]);
  const schema = {
    ...body,
    title: "",
    description: "",
    type: "object",
    required: [...parameters.filter((p: Schema) => p.required).map((p: Schema) => p.name), ...(body.required ?? [])],
    properties: { ...Object.fromEntries(parameters.map((p: Schema) => [p.name, form.of(p.schema, p.name)])), ...body.properties },
  } as RJSFSchema;
  const isRaw = given !== undefined && !parameters.length && !FIELDS.some((word) => word in body);
  const clients = operation[CLIENTS] ?? {};
  const examples: Input[] = (body.examples ?? []).filter((example: Input) => isRaw || isRecord(example));
  const { tags = [], summary = "", description = "", operationId = "" }: Schema = operation;
  const name = (protocol?.operationId ?? operationId).replace(/_(post|get)(_.*)?$/, "");
  return { path, app: tags[0] ?? "", name, summary, description, kind, parameters, schema, isRaw, uploads, examples, clients };
}

function kindOf(answers: Schema): Endpoint["kind"] {
  return "text/event-stream" in answers ? "stream" : "application/json" in answers ? "unary" : "response";
}

/**
 * Turn pydantic's schemas into what people can fill in.
 *
 * Titles that pydantic has made of names are made anew, references are put in place, `X | None` becomes an X that `isOptional`,
 * unless it is an object, which no empty field could stand for, media become strings with `media`, which hold a URL, a
 * required field without a default begins with its first example, and bounds that no number can hold exactly are
 * rounded.
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

  #make(given: Schema, name: string): Schema {
    if (typeof given === "boolean") return { title: humanise(name) }; // `true`: anything
    const schema = given.title && given.title === titleMade(name) ? { ...given, title: humanise(name) } : given;
    if (schema.$ref) return this.#resolve(schema, name);
    const media = mediaOf(schema, name);
    if (media) return mediaField(schema, name, media);
    const options: Schema[] = schema.anyOf ?? [];
    if (options.length > 1 && options.every(isChoice)) {
      const { anyOf, ...rest } = schema;
      return this.#parts({ title: humanise(name), ...rest, type: options[0]!.type, enum: options.flatMap(choicesOf) }, name);
    }
    const [only, ...others] = options.filter((option) => option.type !== "null");
    if (only && !others.length && options.length === 2 && "default" in schema) {
      const { anyOf, default: preset, title = humanise(name), ...rest } = schema;
      const made = this.#make({ ...only, title, ...rest, ...(preset !== null && { default: preset }) }, name);
      if (!made.properties && !made.$ref) return { ...made, isOptional: true };
    }
    return this.#parts({ ...(name && { title: humanise(name) }), ...schema }, name);
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

  #parts(schema: Schema, name: string): Schema {
    const made: Schema = rounded(schema);
    if (schema.properties) {
      made.properties = Object.fromEntries(
        Object.entries<Schema>(schema.properties).map(([name, part]) => {
          const isRequired = schema.required?.includes(name);
          return [name, begun(this.#make(part, name), isRequired)];
        }),
      );
      placeMasks(made.properties);
    }
    if (schema.prefixItems) {
      made.items = schema.prefixItems.map((part: Schema) => this.#make(part, ""));
      delete made.prefixItems;
    } else if (schema.items) made.items = ofFiles(this.#make(schema.items, /_urls$/.test(name) ? name.slice(0, -1) : ""));
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
  const { pattern, ...others } = Object.fromEntries(parts);
  return isPattern(pattern) ? { ...others, pattern } : others;
}

/** Say whether it is a pattern here, too: Python and Rust write some in another way, and the server checks all. */
function isPattern(pattern: unknown): boolean {
  try {
    return typeof pattern === "string" && Boolean(new RegExp(pattern, "u"));
  } catch {
    return false;
  }
}

/** Titles that are those of types, and say nothing of the field. */
const MEDIA = ["Image", "Audio", "Video", "File", "LargeFile", "CompressedFile"];

/** What `ui.field` may say of a file, and what that takes. */
const KINDS: Record<string, MediaKind> = { image: "image", mask: "image", audio: "audio", video: "video", file: "file" };
const NAMED = /(?:^|_)(image|mask|audio|video)_url$/;

/** Return the kind of file that a value is: the schema says it, or, of a text, the name, as fal's apps have it. */
function mediaOf({ ui, type, format, enum: choices, const: only }: Schema, name: string): MediaKind | undefined {
  const isText = type === "string" && choices === undefined && only === undefined;
  return KINDS[ui?.field] ?? (isText ? (KINDS[NAMED.exec(name)?.[1] ?? ""] ?? (format === FILES ? "file" : undefined)) : undefined);
}

function mediaField(schema: Schema, name: string, media: MediaKind): Schema {
  const title = MEDIA.includes(schema.title) || !schema.title ? humanise(name) || schema.title : schema.title;
  const isMask = schema.ui?.field === "mask" || (media === "image" && /^mask(_image)?(_url)?$/i.test(name));
  const preset = typeof schema.default === "string" && schema.default ? { default: schema.default } : {};
  const { ui, description } = schema;
  return { type: "string", media, title, description, ...(ui && { ui }), ...(isMask && { mask: { name, on: "" } }), ...preset };
}

const PAINTED = ["image", "image_url", "init_image", "init_image_url", "input_image", "input_image_url"];

/** Let masks know on which of the images beside them they are painted; without one they are images like others. */
function placeMasks(properties: Record<string, Schema>): void {
  const isImage = (name: string) => properties[name]?.media === "image" && !properties[name]!.mask;
  const on = PAINTED.find(isImage) ?? Object.keys(properties).find(isImage);
  for (const [name, part] of Object.entries(properties)) {
    if (part.mask) part.mask = on && { name, on };
  }
}

/** Let the form's library take a list of files for one field. */
function ofFiles(items: Schema): Schema {
  return items.media ? { ...items, format: FILES } : items;
}

const FILES = "data-url";

/** Say whether it is one of FastAPI's uploads, or a list of these, or bytes: a form brings what JSON cannot hold. */
function isUpload({ type, items, format, contentMediaType }: Schema): boolean {
  if (type === "array") return items !== undefined && !Array.isArray(items) && isUpload(items);
  return type === "string" && (format === "binary" || contentMediaType === "application/octet-stream");
}

function uploadField(schema: Schema): Schema {
  const one = { type: "string", media: "file", isSent: true };
  const { type, title, description } = schema;
  return type === "array" ? { ...schema, items: { ...one, format: FILES } } : { ...one, title, description };
}

function begun(schema: Schema, isRequired: boolean): Schema {
  const isOpen = isRequired && schema.default === undefined && schema.examples?.length;
  return isOpen ? { ...schema, default: schema.examples[0] } : schema;
}

function titled(option: Schema, parent: Schema): Schema {
  const isNamed = option.type !== "null" && option.title && option.title !== parent.title;
  return isNamed ? option : { ...option, title: TYPES[option.type] ?? "Other" };
}

/** What people call the types of JSON. */
const TYPES: Record<string, string> = {
  string: "Text", integer: "Whole number", number: "Number", boolean: "Yes or no", array: "List", object: "Fields", null: "None",
};

const WRITTEN: Record<string, string> = { url: "URL", urls: "URLs", id: "ID", ids: "IDs", fps: "FPS", cfg: "CFG", json: "JSON" };

/** Write a name as people write: `num_images` as "Number of images". */
export function humanise(name: string): string {
  const whole = name.replace(/^num_(?=.)/, "number_of_").replace(/([a-z])([A-Z])/g, "$1_$2");
  const words = whole.split("_").filter(Boolean).map((word) => WRITTEN[word.toLowerCase()] ?? (/[a-z]/.test(word) ? word.toLowerCase() : word)).join(" ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Write a name as pydantic does where the author has given no title. */
function titleMade(name: string): string {
  return name.toLowerCase().replace(/(^|[^a-z])([a-z])/g, (_, before, letter) => before + letter.toUpperCase()).replace(/_/g, " ");
}

/** Say whether an input can be one of this endpoint's: a link, or what a browser has kept, may hold anything. */
export function fits({ isRaw }: Endpoint, input: Input): boolean {
  return isRaw || isRecord(input);
}

/** Say whether a value is a JSON object. */
export function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Return the schemas of an endpoint's fields, by their names. */
export function fieldsOf({ schema }: Endpoint): Record<string, Schema> {
  return (schema.properties ?? {}) as Record<string, Schema>;
}

/** Leave out what is only the schema's default: for links and code to copy. */
export function givenOnly(endpoint: Endpoint, input: Input): Input {
  if (endpoint.isRaw) return input;
  const fields = fieldsOf(endpoint);
  const required = endpoint.schema.required ?? [];
  return Object.fromEntries(
    Object.entries(input as Fields).filter(
      ([name, value]) =>
        value !== undefined && (required.includes(name) || stringifyJson(value) !== stringifyJson(fields[name]?.default)),
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
    else for (const value of [body[name] ?? []].flat()) query.append(name, String(value));
    delete body[name];
  }
  return { path: query.size ? `${path}?${query}` : path, body };
}
