/** Draw the API with Swagger UI: ask for the key where there is one, and show streams, which Swagger UI does not know. */

const KEY = "streamapp:key"; // the playground's, too: one tab asks once
const THEME = "streamapp:theme";
const MAY_BE_SENT = /^[\t\x20-\xff]*$/; // in a header
const SSE = "text/event-stream";
const STREAMS = /^(text\/event-stream|application\/x-ndjson)\b/;
// What is drawn of a stream: a preview is an image in a line of letters, and letters are slow to colour.
const MOST_OF_A_LINE = 2000;
const MOST_OF_A_STREAM = 300_000;
const MOST_HELD = 20_000_000; // of one that does not end
// The page is at {server}/docs.
const SERVER = location.origin + location.pathname.replace(/\/docs\/?$/, "");

const part = (id) => document.getElementById(id);
let key = recall("sessionStorage", KEY) ?? "";

// Keys

/** Load the document and draw it; ask for the key where it is missing. */
async function load() {
  part("failed").hidden = true;
  const answer = await fetch(`${SERVER}/openapi.json`, { headers: withKey({}) }).catch(() => undefined);
  const text = answer ? await answer.text().catch(() => "") : "";
  if (answer?.status === 401) return ask();
  const told = parsed(text, asKnown);
  if (!answer?.ok || !told) return fail(answer, told);
  part("ask").hidden = true;
  part("change").hidden = key === "";
  draw(told);
}

function ask() {
  part("ask").hidden = false;
  part("change").hidden = true;
  part("refused").hidden = key === "";
  part("key").setAttribute("aria-invalid", String(key !== ""));
  part("key").value = "";
  part("key").focus();
}

function fail(answer, told) {
  const status = answer && `The server answered HTTP ${answer.status} ${answer.statusText}`;
  part("reason").textContent = told?.error?.message ?? status ?? "The server does not answer.";
  part("failed").hidden = false;
}

/** Return headers that open the server. What no header can hold is no server's key. */
function withKey(headers) {
  const sent = String.fromCharCode(...new TextEncoder().encode(key)); // a character of a header is a byte, and the server's are UTF-8
  return key && MAY_BE_SENT.test(sent) ? { Authorization: `Key ${sent}`, ...headers } : headers;
}

part("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  key = part("key").value.trim();
  keep("sessionStorage", KEY, key);
  load();
});
part("change").addEventListener("click", () => {
  part("ask").hidden = !part("ask").hidden;
  part("key").focus();
});
part("again").addEventListener("click", load);
// A link cannot send a key.
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => {
    if (key === "") return;
    event.preventDefault();
    save(link);
  });
}

async function save({ href }) {
  const answer = await fetch(href, { headers: withKey({}) }).catch(() => undefined);
  if (!answer?.ok) return load(); // which says what is wrong
  const url = URL.createObjectURL(await answer.blob());
  Object.assign(document.createElement("a"), { href: url, download: href.split("/").pop() }).click();
  URL.revokeObjectURL(url);
}

// What is drawn

function draw(told) {
  document.title = `${told.info.title}: API docs`;
  const place = document.createElement("div"); // a new one for a new key: React takes each once
  part("swagger").replaceChildren(place);
  SwaggerUIBundle({
    spec: { ...told, servers: [{ url: SERVER }] },
    domNode: place,
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [exact],
    deepLinking: true,
    showExtensions: true,
    showCommonExtensions: true,
    validatorUrl: null, // which is another host
    requestInterceptor: prepared,
  });
}

/** Say what Swagger UI knows: of a stream that it is a list of its items, and, by a word of version 2, comes at first. */
function asKnown(_, value) {
  if (value?.itemSchema) return { schema: { type: "array", items: value.itemSchema } };
  const [first] = Object.keys(value?.responses?.["200"]?.content ?? {});
  return STREAMS.test(first) ? { ...value, produces: [first] } : value;
}

/** Return a request with the key. One that takes a stream alone, from a page, is held to come back for the rest. */
function prepared(request) {
  const { accept } = request.headers;
  const headers = accept === SSE ? { ...request.headers, accept: `${SSE}, application/json;q=0.9` } : request.headers;
  return Object.assign(request, { headers: withKey(headers), userFetch: watched });
}

/** Show JSON with all digits of its integers, and lines of JSON as they came. */
function exact({ React }) {
  const shown = ({ content, contentType, ...others }) => {
    if (typeof content !== "string" || !/json/i.test(contentType)) return { content, contentType, ...others };
    const text = formatted(content);
    return text === undefined ? { content, contentType, ...others } : { content: text, contentType: "text/plain", ...others };
  };
  return { wrapComponents: { responseBody: (Original) => (props) => React.createElement(Original, shown(props)) } };
}

/** Return JSON in lines where numbers would lose digits, and what is none as it is; undefined for all other. */
function formatted(text) {
  let isExact = true;
  try {
    const value = JSON.parse(text, (_, value, context) => {
      if (!Number.isInteger(value) || Number.isSafeInteger(value)) return value;
      isExact = false;
      return JSON.rawJSON?.(context.source) ?? value;
    });
    return isExact ? undefined : JSON.rawJSON ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}

// Streams

/** Ask as `fetch` does, and say meanwhile what has come, with a button that ends it: Swagger UI waits for the end. */
async function watched(url, options) {
  const ended = new AbortController();
  const line = lineFor(`${options.method} ${decodeURI(new URL(url).pathname)}`, () => ended.abort());
  try {
    const answer = await fetch(url, { ...options, signal: ended.signal });
    return STREAMS.test(answer.headers.get("content-type")) ? await whole(answer, line) : answer;
  } catch (error) {
    if (!ended.signal.aborted) throw error;
    return new Response("Stopped before an answer came.", { status: 499, statusText: "Stopped" });
  } finally {
    line.remove();
  }
}

/** Return an answer when all of it has come; one that was cut, as a failed stream is, with what came of it. */
async function whole(answer, line) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let end = "";
  let count = 0;
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      if (text.length < MOST_HELD) text += piece.value;
      line.count((count += piece.value.length));
    }
  } catch {
    end = "\n(the stream was cut here)";
  }
  return new Response(shortened(text) + end, answer);
}

function shortened(text) {
  const left = (kept, all) => `... (${(all - kept).toLocaleString("en")} characters are not shown)`;
  const lines = text.split("\n").map((line) => (line.length > MOST_OF_A_LINE ? line.slice(0, MOST_OF_A_LINE) + left(MOST_OF_A_LINE, line.length) : line));
  const all = lines.join("\n");
  return all.length > MOST_OF_A_STREAM ? `${all.slice(0, MOST_OF_A_STREAM)}\n${left(MOST_OF_A_STREAM, all.length)}` : all;
}

function lineFor(name, stop) {
  const line = document.createElement("p");
  const words = document.createElement("span");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Stop" });
  words.textContent = name;
  button.addEventListener("click", stop);
  line.append(words, button);
  part("running").append(line);
  return {
    count: (length) => (words.textContent = `${name}: ${length.toLocaleString("en")} characters`),
    remove: () => line.remove(),
  };
}

// Light and dark: as the system has it, until one is chosen

let chosen = recall("localStorage", THEME);

function shownTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  return ["dark", "light"].includes(chosen) ? chosen : system;
}

function applyTheme() {
  document.documentElement.classList.toggle("dark-mode", shownTheme() === "dark"); // by which Swagger UI knows it
  document.documentElement.dataset.theme = shownTheme();
}

part("theme").addEventListener("click", () => {
  chosen = shownTheme() === "dark" ? "light" : "dark";
  keep("localStorage", THEME, chosen);
  applyTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);

// What the browser keeps, where it lets us: with cookies blocked already looking throws

function recall(place, name) {
  try {
    return window[place].getItem(name);
  } catch {
    return null;
  }
}

function keep(place, name, text) {
  try {
    window[place].setItem(name, text);
  } catch {
    // it holds until the page is left
  }
}

function parsed(text, revive) {
  try {
    return JSON.parse(text, revive);
  } catch {
    return undefined; // what a proxy says
  }
}

applyTheme();
load();
