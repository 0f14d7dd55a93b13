/** The page: opens the document that its address names, shows who is there, and says whether what is written arrives. */

import { defaultKeymap } from "@codemirror/commands";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { yCollab, yUndoManagerKeymap } from "y-codemirror.next";
import { IndexeddbPersistence } from "y-indexeddb";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

import { cursors } from "./cursors.ts";
import { COLOURS, people } from "./people.ts";
import { theme } from "./theme.ts";
import { wholeCharacters } from "./whole.ts";

const MOST_SHOWN = 6;
const BASE = new URL(".", location.href);
const KEY = "streamapp:key"; // as in the pages of other apps: it is asked for once

function element<E extends HTMLElement = HTMLElement>(id: string): E {
  return document.getElementById(id) as E;
}

const name = new URLSearchParams(location.search).get("document") ?? "welcome";
document.title = `${name} – Editor`;
element<HTMLInputElement>("document").value = name;
element("open").addEventListener("submit", (event) => {
  event.preventDefault();
  location.search = `?${new URLSearchParams({ document: element<HTMLInputElement>("document").value })}`;
});

const doc = new Y.Doc();
const text = doc.getText("content");
new IndexeddbPersistence(`editor ${BASE.pathname} ${name}`, doc); // what is written offline outlives the page
const provider = new WebsocketProvider(new URL("documents", BASE).href.replace(/^http/, "ws"), name, doc, { connect: false });
const { awareness } = provider;
// What the server has refused it refuses again: a status of HTTP's, behind 4000, or what is too large for one message.
provider.shouldReconnect = ({ code }) => code !== 1009 && !(code >= 4400 && code < 4500);

/** Show in words how it stands; the style shows it by `data-state`, too. */
function say(state: "waiting" | "online" | "offline" | "closed", words: string): void {
  element("state").dataset.state = state;
  element("state").textContent = words;
}

say("waiting", "Connecting …");
provider.on("sync", (isSynced) => {
  if (isSynced) say("online", "All that you write is shared and saved");
});
provider.on("status", ({ status }) => {
  if (status === "disconnected") say("offline", "No connection. Go on writing: it is kept here, and merged when the connection is back");
});
provider.on("closed", ({ code, reason }) => say("closed", `The server has ended the connection: ${reason || code}. Copy what you need, and load the page anew`));

function showPeople(): void {
  const all = people(awareness);
  const items = all.slice(0, MOST_SHOWN).map(({ name, colour, isSelf }) => item(isSelf ? `${name} (you)` : name, `person-${colour}`));
  if (all.length > MOST_SHOWN) items.push(item(`and ${all.length - MOST_SHOWN} more`, "more"));
  element("people").replaceChildren(...items);
}

function item(words: string, style: string): HTMLElement {
  const made = document.createElement("li");
  made.className = style;
  made.textContent = words;
  return made;
}

awareness.on("change", showPeople);

const nameField = element<HTMLInputElement>("name");
nameField.value = localStorage.getItem("editor.name") ?? "";
const kept = Number(localStorage.getItem("editor.colour") ?? Math.floor(Math.random() * COLOURS.length));
element("colours").append(
  ...COLOURS.map(({ name }, number) => {
    const choice = Object.assign(document.createElement("input"), { type: "radio", name: "colour", value: number, checked: number === kept, ariaLabel: name, title: name });
    choice.className = `person-${number}`;
    return choice;
  }),
);

function introduce(): void {
  const colour = Number(document.querySelector<HTMLInputElement>("#colours :checked")?.value ?? 0);
  localStorage.setItem("editor.name", nameField.value);
  localStorage.setItem("editor.colour", String(colour));
  const color = COLOURS[colour]?.hex ?? COLOURS[0].hex;
  awareness.setLocalStateField("user", { name: nameField.value.trim() || "Somebody", color, colorLight: `${color}33` });
}

element("me").addEventListener("input", introduce);
introduce();

// In a shadow tree: there CodeMirror's styles are objects, not elements, which the page's policy forbids.
const root = element("text").attachShadow({ mode: "open" });
const parent = document.createElement("div");
parent.style.height = "100%";
root.append(parent);
new EditorView({
  root,
  parent,
  state: EditorState.create({
    extensions: [
      yCollab(text, null, { undoManager: new Y.UndoManager(text) }), // undoes one's own edits alone
      cursors(text, awareness),
      keymap.of([...yUndoManagerKeymap, ...defaultKeymap]),
      wholeCharacters,
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ "aria-label": `Text of ${name}`, spellcheck: "true" }),
      placeholder("Write here. Open this page in another window to write together."),
      theme,
    ],
  }),
});

/** Ask whether the key opens the document, and for another one until it does. */
async function connect(): Promise<void> {
  const key = sessionStorage.getItem(KEY);
  const headers = { "content-type": "application/json", ...(key && { authorization: `Key ${key}` }) };
  const answer = await fetch(new URL("text", BASE), { method: "POST", headers, body: JSON.stringify({ name }) }).catch(() => undefined);
  if (answer?.status === 401) return ask(key !== null);
  if (answer?.status === 422) return say("closed", "A document's name has 1 to 64 letters, digits, dots, dashes and underscores");
  if (answer?.status === 507) return say("closed", (await answer.json()).error.message); // too many documents
  provider.params = key ? { _token: key } : {};
  provider.connect();
}

function ask(wasWrong: boolean): void {
  const dialog = element<HTMLDialogElement>("ask");
  element("wrong").textContent = wasWrong ? "That was not the key." : "";
  dialog.addEventListener("close", () => {
    sessionStorage.setItem(KEY, element<HTMLInputElement>("key").value);
    void connect();
  }, { once: true });
  dialog.showModal();
}

void connect();
