/** Code that makes the same call from elsewhere, to be copied. */

import { type KeyboardEvent, useId, useRef, useState } from "react";
import { stringifyJson } from "streamapp-client";

import { CopyButton } from "./parts";
import { addressed, type Endpoint, givenOnly, type Input, isRecord } from "./schema";

interface Call {
  server: string;
  hasKey: boolean;
  path: string;
  app: string;
  kind: Endpoint["kind"];
  body: Input;
}

const LANGUAGES: Record<string, (call: Call) => string> = {
  curl,
  Python: python,
  JavaScript: javascript,
  EventSource: eventSource,
  fal_client: falClient,
};

interface CodeProps {
  server: string;
  hasKey: boolean;
  endpoint: Endpoint;
  input: Input;
}

/** The tabs "Code". */
export function Code({ server, hasKey, endpoint, input }: CodeProps) {
  const id = useId();
  const tabs = useRef<HTMLDivElement>(null);
  const [chosen, choose] = useState("curl");
  const names = Object.keys(LANGUAGES);
  const { app, kind } = endpoint;
  const addressee = kind === "socket" ? { path: endpoint.path, body: {} } : addressed(endpoint, givenOnly(endpoint, input));
  const call = { server, hasKey, app, kind, ...addressee };
  const code = LANGUAGES[chosen]!(call);
  const move = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    const next = (names.indexOf(chosen) + by + names.length) % names.length;
    choose(names[next]!);
    (tabs.current!.children[next] as HTMLElement).focus();
  };
  return (
    <>
      <div role="tablist" aria-label="Code" ref={tabs} onKeyDown={move}>
        {names.map((name) => (
          <button key={name} type="button" role="tab" id={`${id}${name}`} aria-selected={name === chosen} aria-controls={`${id}panel`}
            tabIndex={name === chosen ? 0 : -1} onClick={() => choose(name)}>
            {name}
          </button>
        ))}
      </div>
      <div role="tabpanel" id={`${id}panel`} aria-labelledby={`${id}${chosen}`} tabIndex={0}>
        <CopyButton name="Copy" text={() => code} />
        <pre><code>{code}</code></pre>
      </div>
    </>
  );
}

/** Return the URL of a WebSocket. */
function socketUrl({ server, path }: Call): string {
  return server.replace(/^http/, "ws") + path;
}

function isSocket({ kind }: Call): boolean {
  return kind === "session" || kind === "socket";
}

function curl(call: Call): string {
  const { server, hasKey, path, kind, body } = call;
  if (isSocket(call)) {
    const key = hasKey ? `-H "Authorization: Key $STREAMAPP_API_KEY" ` : "";
    const line = kind === "session" ? `echo ${shellQuoted(stringifyJson(body))} | ` : "";
    return `# A WebSocket, which curl does not speak; websocat does: each line is a message.
${line}websocat ${kind === "session" ? "--no-close " : ""}${key}${shellQuoted(socketUrl(call))}`;
  }
  const lines = [
    `curl ${kind === "unary" ? "" : "--no-buffer "}${shellQuoted(server + path)}`,
    ...(hasKey ? [`-H "Authorization: Key $STREAMAPP_API_KEY"`] : []),
    "-H 'Content-Type: application/json'",
    `-d ${shellQuoted(stringifyJson(body))}`,
  ];
  return lines.join(" \\\n  ");
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function python(made: Call): string {
  const { server, hasKey, path, kind, body } = made;
  if (kind === "response") return pythonResponse(made);
  if (kind === "socket") return pythonSocket(made);
  const key = hasKey ? ', key=os.environ["STREAMAPP_API_KEY"]' : "";
  const call = `${JSON.stringify(path)}, ${pythonLiteral(body)}`;
  const use = {
    stream: `for event in client.stream(${call}):\n    print(event.name, event.data)`,
    unary: `print(client.run(${call}))`,
    session: `with client.connect(${JSON.stringify(path)}) as session:
    session.send(${pythonLiteral(body)})
    session.finish()  # no more inputs come
    for event in session:
        print(event.name, event.data)`,
  }[kind];
  return `${hasKey ? "import os\n\n" : ""}from streamapp_client import Client

client = Client(${JSON.stringify(server)}${key})
${use}
`;
}

function pythonSocket(call: Call): string {
  const headers = call.hasKey ? `, additional_headers={"Authorization": "Key " + os.environ["STREAMAPP_API_KEY"]}` : "";
  return `${call.hasKey ? "import os\n\n" : ""}from websockets.sync.client import connect

with connect(${JSON.stringify(socketUrl(call))}${headers}) as socket:
    for message in socket:
        print(message)
`;
}

/** The bytes of an answer go where they are sent to: it may be a picture. */
function pythonResponse({ server, hasKey, path, body }: Call): string {
  const headers = hasKey ? `, headers={"Authorization": "Key " + os.environ["STREAMAPP_API_KEY"]}` : "";
  return `${hasKey ? "import os\n" : ""}import sys

import httpx

url = ${JSON.stringify(server + path)}
with httpx.stream("POST", url, json=${pythonLiteral(body)}${headers}, timeout=None) as answer:
    answer.raise_for_status()
    for piece in answer.iter_bytes():
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
`;
}

function javascript(made: Call): string {
  const { server, hasKey, path, kind, body } = made;
  if (kind === "socket") {
    const url = JSON.stringify(socketUrl(made));
    return `const socket = new WebSocket(${url}${hasKey ? ` + "?_token=" + encodeURIComponent(process.env.STREAMAPP_API_KEY)` : ""});
socket.onmessage = ({ data }) => console.log(data);
`;
  }
  const options = [...(hasKey ? ["key: process.env.STREAMAPP_API_KEY"] : []), ...(isLarge(body) ? ['largeIntegers: "bigint"'] : [])];
  const call = `${JSON.stringify(path)}, { input }`;
  const use = {
    stream: `const stream = await client.stream(${call});
for await (const event of stream) console.log(event.name, event.data);`,
    unary: `console.log(await client.run(${call}));`,
    response: `const answer = await client.fetch(${call});
for await (const piece of answer.body) process.stdout.write(piece);`,
    session: `const session = client.connect(${JSON.stringify(path)});
session.send(input);
session.finish(); // no more inputs come
for await (const event of session) console.log(event.name, event.data);`,
  }[kind];
  return `import { Client } from "streamapp-client";

const client = new Client(${JSON.stringify(server)}${options.length ? `, { ${options.join(", ")} }` : ""});
const input = ${javascriptLiteral(body)};
${use}
`;
}

function eventSource(call: Call): string {
  const { server, hasKey, path, kind, body } = call;
  if (isSocket(call)) return "// A WebSocket, whose messages an EventSource cannot read.\n";
  if (kind === "unary") return "// This endpoint answers once, and is called by POST: an EventSource cannot read it.\n";
  if (!isRecord(body)) return "// In a URL an input is an object: this one an EventSource cannot send.\n";
  const token = hasKey ? `\nquery.set("_token", prompt("API key")); // an EventSource can send no headers` : "";
  const [input, read] = isLarge(body)
    ? [JSON.stringify(stringifyJson(body)), "event.data"] // JSON.stringify and JSON.parse would round
    : [`JSON.stringify(${stringifyJson(body, 2)})`, "JSON.parse(event.data)"];
  const open = `const query = new URLSearchParams({ _input: ${input} });${token}
const source = new EventSource(${JSON.stringify(`${server}${path}${path.includes("?") ? "&" : "?"}`)} + query);`;
  if (kind === "response") {
    return `// If this endpoint answers with an event stream; one with names needs a listener for each.
${open}
source.onmessage = (event) => console.log(event.data);
source.onerror = () => source.close(); // also at the end: it would begin anew
`;
  }
  return `${open}
source.onmessage = (event) => console.log(${read});
source.addEventListener("done", () => source.close());
source.addEventListener("error", (event) => {
  if (!event.data) return; // the connection was lost, and is made again
  console.error(JSON.parse(event.data));
  source.close();
});
`;
}

function falClient({ server, hasKey, path, app, kind, body }: Call): string {
  if (kind === "socket") return "# What is said over this WebSocket only the app knows: fal_client does not.\n";
  const own = path.startsWith(`/${app}/`) || path === `/${app}` ? path.slice(app.length + 1) : path;
  const at = own === "/" ? "" : own;
  const call = `"local/${app}", ${pythonLiteral(body)}, path=${JSON.stringify(at)}`;
  const condition = kind === "response" ? "# If this endpoint answers with an event stream whose data are JSON.\n" : "";
  const session = `fal_client.client.REALTIME_URL_FORMAT = ${JSON.stringify(`${server.replace(/^http/, "ws")}/run/`)}

with fal_client.realtime("local/${app}", path=${JSON.stringify(at)}, use_jwt=False) as session:
    session.send(${pythonLiteral(body)})
    print(session.recv())`;
  const use = kind === "session" ? session : kind === "unary"
    ? `print(fal_client.run(${call}))`
    : `${condition}for event in fal_client.stream(${call}):\n    print(event)`;
  return `import os

${hasKey ? 'os.environ["FAL_KEY"] = os.environ["STREAMAPP_API_KEY"]' : 'os.environ.setdefault("FAL_KEY", "none")'}

import fal_client

fal_client.client.RUN_URL_FORMAT = ${JSON.stringify(`${server}/run/`)}  # by itself it knows only https
fal_client.client.QUEUE_URL_FORMAT = ${JSON.stringify(`${server}/queue/`)}

${use}
`;
}

/** Write a JSON value in Python. */
function pythonLiteral(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value !== "object") return stringifyJson(value);
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonLiteral(item)}`).join(", ")}}`;
}

/** Write a JSON value in JavaScript, which is JSON but for its BigInts; `line` is what begins its line. */
function javascriptLiteral(value: unknown, line = "\n"): string {
  if (typeof value === "bigint") return `${value}n`;
  if (!isLarge(value)) return stringifyJson(value, 2).replaceAll("\n", line);
  const inner = `${line}  `;
  const isList = Array.isArray(value);
  const parts = Object.entries(value as object).map(([key, item]) => {
    return inner + (isList ? "" : `${JSON.stringify(key)}: `) + javascriptLiteral(item, inner);
  });
  return isList ? `[${parts}${line}]` : `{${parts}${line}}`;
}

/** Say whether there is an integer beyond 2^53 in a value. */
function isLarge(value: unknown): boolean {
  if (typeof value === "bigint") return true;
  return typeof value === "object" && value !== null && Object.values(value).some(isLarge);
}
