/** In which languages the page writes code that makes a call. */

import { stringifyJson } from "streamapp-client";

import { isRecord } from "../runs/schema";
import { type Call, imports, isOpenais, isSocket, KEY, socketUrl } from "./call";
import { isLarge, javascriptLiteral, pythonLiteral } from "./literals";
import { openai } from "./openai";

export interface Language {
  name: string;
  isShell?: boolean;
  /** Write the code; undefined where the endpoint cannot be called so. */
  write: (call: Call) => string | undefined;
  /** How what it imports is installed. */
  install?: (call: Call) => string | undefined;
}

const CLIENT = 'pip install "streamapp-client[images,realtime]"';
const PYTHON_NEEDS: Partial<Record<Call["kind"], string>> = { response: "pip install httpx", socket: "pip install websockets" };

export const LANGUAGES: Language[] = [
  { name: "curl", isShell: true, write: curl },
  { name: "Python", write: python, install: ({ kind }) => PYTHON_NEEDS[kind] ?? CLIENT },
  { name: "JavaScript", write: javascript, install: ({ kind }) => (kind === "socket" ? undefined : "npm install streamapp-client") },
  { name: "EventSource", write: eventSource },
  { name: "openai", write: openai, install: () => "pip install openai" },
  { name: "fal_client", write: falClient, install: () => "pip install fal-client" },
  { name: "Runpod", write: runpod, install: () => "pip install runpod" },
];

/** Without an end of line, by which a terminal would run it as soon as it is pasted. */
function curl(call: Call): string {
  const { server, hasKey, path, kind, body } = call;
  const key = `-H "Authorization: Key $STREAMAPP_API_KEY"`;
  if (isSocket(call)) {
    const line = kind === "session" ? `echo ${shellQuoted(stringifyJson(body))} | ` : "";
    return `# A WebSocket, which curl does not speak; websocat does: each line is a message.
${line}websocat ${kind === "session" ? "--no-close " : ""}${hasKey ? `${key} ` : ""}${shellQuoted(socketUrl(call))}`;
  }
  const lines = [
    `curl ${kind === "unary" ? "" : "--no-buffer "}${shellQuoted(server + path)}`,
    ...(hasKey ? [key] : []),
    "-H 'Content-Type: application/json'",
    `-d ${shellQuoted(shellJson(body))}`,
  ];
  return lines.join(" \\\n  ");
}

/** JSON in one line where that can be overlooked. */
function shellJson(body: unknown): string {
  const text = stringifyJson(body);
  return text.length <= 80 ? text : stringifyJson(body, 2).replaceAll("\n", "\n  ");
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function python(call: Call): string {
  const { server, hasKey, path, kind, body } = call;
  if (kind === "response") return pythonResponse(call);
  if (kind === "socket") return pythonSocket(call);
  const asked = `${JSON.stringify(path)}, ${pythonLiteral(body)}`;
  const use = {
    stream: `for event in client.stream(${asked}):\n    print(event.name, event.data)`,
    unary: `print(client.run(${asked}))`,
    session: `with client.connect(${JSON.stringify(path)}) as session:
    session.send(${pythonLiteral(body, "\n    ")})
    session.finish()  # no more inputs come
    for event in session:
        print(event.name, event.data)`,
  }[kind];
  return `${imports(call)}from streamapp_client import Client

client = Client(${JSON.stringify(server)}${hasKey ? `, key=${KEY}` : ""})
${use}
`;
}

function pythonSocket(call: Call): string {
  const headers = call.hasKey ? `, additional_headers={"Authorization": "Key " + ${KEY}}` : "";
  return `${imports(call)}from websockets.sync.client import connect

with connect(${JSON.stringify(socketUrl(call))}${headers}) as socket:
    for message in socket:
        print(message)
`;
}

/** The bytes of an answer go where they are sent to: it may be a picture. */
function pythonResponse(call: Call): string {
  const { server, hasKey, path, body } = call;
  const headers = hasKey ? `, headers={"Authorization": "Key " + ${KEY}}` : "";
  return `${imports(call, "sys")}import httpx

url = ${JSON.stringify(server + path)}
with httpx.stream("POST", url, json=${pythonLiteral(body)}${headers}, timeout=None) as answer:
    answer.raise_for_status()
    for piece in answer.iter_bytes():
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
`;
}

function javascript(call: Call): string {
  const { server, hasKey, path, kind, body } = call;
  if (kind === "socket") {
    const url = JSON.stringify(socketUrl(call));
    return `const socket = new WebSocket(${url}${hasKey ? ` + "?_token=" + encodeURIComponent(process.env.STREAMAPP_API_KEY)` : ""});
socket.onmessage = ({ data }) => console.log(data);
`;
  }
  const options = [...(hasKey ? ["key: process.env.STREAMAPP_API_KEY"] : []), ...(isLarge(body) ? ['largeIntegers: "bigint"'] : [])];
  const asked = `${JSON.stringify(path)}, { input }`;
  const use = {
    stream: `const stream = await client.stream(${asked});
for await (const event of stream) console.log(event.name, event.data);`,
    unary: `console.log(await client.run(${asked}));`,
    response: `const answer = await client.fetch(${asked});
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

/** It opens URLs, by GET, in which an input is an object: nothing of OpenAI's, nor what answers once. */
function eventSource(call: Call): string | undefined {
  const { server, hasKey, path, kind, body } = call;
  if (isSocket(call) || isOpenais(call) || kind === "unary" || !isRecord(body)) return undefined;
  const token = hasKey ? `\nquery.set("_token", prompt("API key")); // an EventSource can send no headers` : "";
  const [input, read] = isLarge(body)
    ? [JSON.stringify(stringifyJson(body)), "event.data"] // JSON.stringify and JSON.parse would round
    : [`JSON.stringify(${javascriptLiteral(body)})`, "JSON.parse(event.data)"];
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

/** What is said over a WebSocket of the app's own it does not know. */
function falClient(call: Call): string | undefined {
  const { server, hasKey, path, app, kind, body } = call;
  if (kind === "socket" || isOpenais(call)) return undefined;
  const own = path.startsWith(`/${app}/`) || path === `/${app}` ? path.slice(app.length + 1) : path;
  const at = own === "/" ? "" : own;
  const asked = `"local/${app}", ${pythonLiteral(body)}, path=${JSON.stringify(at)}`;
  const condition = kind === "response" ? "# If this endpoint answers with an event stream whose data are JSON.\n" : "";
  const session = `fal_client.client.REALTIME_URL_FORMAT = ${JSON.stringify(`${server.replace(/^http/, "ws")}/run/`)}

with fal_client.realtime("local/${app}", path=${JSON.stringify(at)}, use_jwt=False) as session:
    session.send(${pythonLiteral(body, "\n    ")})
    print(session.recv())`;
  const use = kind === "session" ? session : kind === "unary"
    ? `print(fal_client.run(${asked}))`
    : `${condition}for event in fal_client.stream(${asked}):\n    print(event)`;
  return `import os

${hasKey ? `os.environ["FAL_KEY"] = ${KEY}` : 'os.environ.setdefault("FAL_KEY", "none")'}

import fal_client

fal_client.client.RUN_URL_FORMAT = ${JSON.stringify(`${server}/run/`)}  # by itself it knows only https
fal_client.client.QUEUE_URL_FORMAT = ${JSON.stringify(`${server}/queue/`)}

${use}
`;
}

function runpod(call: Call): string | undefined {
  const { server, hasKey, kind, body, all, clients } = call;
  if (!clients.runpod) return undefined;
  const given = isRecord(body) && !Object.keys(body).length ? all : body; // the client makes {"input": {}} of an empty one
  // Whatever has an "input" counts as wrapped already.
  const input = isRecord(given) && !("input" in given) ? given : { input: given };
  const asked = pythonLiteral(input);
  const use = kind === "unary" ? `print(endpoint.run_sync(${asked}))` : `job = endpoint.run(${asked})
for output in job.stream():
    print(output)
print(job.status())`;
  return `${imports(call)}import runpod

runpod.api_key = ${hasKey ? KEY : '"none"'}
runpod.endpoint_url_base = ${JSON.stringify(`${server}/v2`)}
endpoint = runpod.Endpoint(${JSON.stringify(clients.runpod.endpoint_id)})
${use}
`;
}
