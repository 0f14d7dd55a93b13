/** The call that copied code makes. */

import { addressed, type Clients, type Endpoint, type Fields, fieldsOf, givenOnly, type Input, isRecord } from "../runs/schema";

/** What there is to be called, and by what. */
export interface Target {
  server: string;
  hasKey: boolean;
  endpoint: Endpoint;
}

export interface Call {
  server: string;
  hasKey: boolean;
  path: string;
  app: string;
  kind: Endpoint["kind"];
  /** What is not the schema's default. */
  body: Input;
  /** All fields, for protocols that have other defaults. */
  all: Fields;
  clients: Clients;
}

/** Return the call with an input. */
export function callOf({ server, hasKey, endpoint }: Target, input: Input): Call {
  const { app, kind, clients } = endpoint;
  const addressee = kind === "socket" ? { path: endpoint.path, body: {} } : addressed(endpoint, givenOnly(endpoint, input));
  const all = isRecord(input) ? { ...presets(endpoint), ...input } : {};
  return { server, hasKey, app, kind, clients, all, ...addressee };
}

function presets(endpoint: Endpoint): Fields {
  const fields = Object.entries(fieldsOf(endpoint)).filter(([, field]) => field.default !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [name, field.default]));
}

export function isSocket({ kind }: Call): boolean {
  return kind === "session" || kind === "socket";
}

/** Say whether it is a path of OpenAI's, and no endpoint of an app. */
export function isOpenais({ path, clients }: Call): boolean {
  return clients.openai?.path === path;
}

/** Return the URL of a WebSocket. */
export function socketUrl({ server, path }: Call): string {
  return server.replace(/^http/, "ws") + path;
}

/** The key in Python, where the server asks for one. */
export const KEY = 'os.environ["STREAMAPP_API_KEY"]';

/** Write what Python has to import of its own: what the key needs, and others. */
export function imports({ hasKey }: Call, ...others: string[]): string {
  const names = [...(hasKey ? ["os"] : []), ...others].sort();
  return names.map((name) => `import ${name}\n`).join("") + (names.length ? "\n" : "");
}
