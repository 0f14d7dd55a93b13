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
const TOO_LARGE = 1009; // of a message that the server takes from nobody; 4413 is that of a document

/** What the browser keeps of a person, and of a tab; with cookies blocked, when already looking throws, nothing. */
const kept = { person: storage("localStorage"), tab: storage("sessionStorage") };

function storage(place: "localStorage" | "sessionStorage"): Record<string, string> {
  try {
    return window[place];
  } catch {
    return {};
  }
}

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
provider.shouldReconnect = ({ code }) => code !== TOO_LARGE && !(code >= 4400 && code < 4500);

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
  if (status !== "disconnected") return;
  say("offline", "No connection. Go on writing: it is kept here, and merged when the connection is back");
  // What was known of others would have them be no news on return, until they say something new, or 15 s have gone.
  for (const client of awareness.meta.keys()) if (client !== awareness.clientID) awareness.meta.delete(client);
});
provider.on("closed", ({ code, reason }) => {
  const isTooLarge = code === TOO_LARGE || code === 4413;
  say("closed", isTooLarge
    ? "Too much for one document, and not shared: take something away, or put it into another one, and load the page anew"
    : `The server has ended the connection: ${reason || code}. Copy what you need, and load the page anew`);
});

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
nameField.value = kept.person["editor.name"] ?? "";
const ownColour = Number(kept.person["editor.colour"] ?? Math.floor(Math.random() * COLOURS.length));
element("colours").append(
  ...COLOURS.map(({ name }, number) => {
    const choice = Object.assign(document.createElement("input"), { type: "radio", name: "colour", value: number, checked: number === ownColour, ariaLabel: name, title: name });
    choice.className = `person-${number}`;
    return choice;
  }),
);

function introduce(): void {
  const colour = Number(document.querySelector<HTMLInputElement>("#colours :checked")?.value ?? 0);
  kept.person["editor.name"] = nameField.value;
  kept.person["editor.colour"] = String(colour);
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

async function connect(): Promise<void> {
  if (await isRefused()) return;
  const key = kept.tab[KEY];
  provider.params = key ? { _token: key } : {};
  provider.connect();
}

/** Say whether the server refuses the document, and why, which a socket does not tell; where it is for the key ask for that. */
async function isRefused(): Promise<boolean> {
  const key = kept.tab[KEY];
  const headers = { "content-type": "application/json", ...(key && { authorization: `Key ${key}` }) };
  const answer = await fetch(new URL("text", BASE), { method: "POST", headers, body: JSON.stringify({ name }) }).catch(() => undefined);
  const refusals: Record<number, () => void> = {
    401: () => ask(key !== undefined),
    422: () => say("closed", "A document's name has 1 to 64 letters, digits, dots, dashes and underscores"),
    507: () => say("closed", "The server has no room for another document"),
  };
  const refuse = refusals[answer?.status ?? 0];
  if (!refuse) return false;
  provider.disconnect();
  refuse();
  return true;
}

function ask(wasWrong: boolean): void {
  element("wrong").textContent = wasWrong ? "The server does not take that key." : "";
  element<HTMLInputElement>("key").value = "";
  const dialog = element<HTMLDialogElement>("ask");
  if (!dialog.open) dialog.showModal();
}

element("ask").addEventListener("submit", () => {
  kept.tab[KEY] = element<HTMLInputElement>("key").value;
  void connect();
});
element("ask").addEventListener("cancel", () => say("closed", "Without the key nothing is shared. Load the page anew to be asked for it"));

provider.on("connection-error", () => void isRefused());
void connect();
