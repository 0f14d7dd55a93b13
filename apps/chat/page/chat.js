/** The page of a room: what its socket says is shown as text, never as HTML. */

const SHOWN = 500; // messages; older ones are taken off the page
const TYPING_MS = 2000; // how often one who writes says so
const TYPING_SEEN_MS = 5000; // how long that holds
const MOST_WAIT_MS = 10_000; // between two tries to connect
const element = (id) => document.getElementById(id);
const messages = element("messages");
const text = element("text");

/** What a tab keeps when it is loaded again; with cookies blocked, when already looking throws, it keeps nothing. */
const kept = (() => {
  try {
    return sessionStorage;
  } catch {
    return {};
  }
})();

/** Who has this secret is this person in every room: a tab is one person, also when it is loaded again. */
const own = {
  key: (kept["chat:key"] ??= crypto.getRandomValues(new Uint8Array(16)).reduce((all, byte) => all + byte.toString(16).padStart(2, "0"), "")),
  id: undefined,
};
const people = new Map();
const writing = new Map(); // who writes: until when that is shown
let model = "the model";
let coming = ""; // the answer that the model writes
let socket;
let tries = 0;
let retry;
let unheard = []; // what was said and has not come back yet
let saidTypingAt = 0;

/** The room that the address names; one that no path can hold is none. */
function room() {
  let named = "";
  try {
    named = [...decodeURIComponent(location.hash.slice(1)).replaceAll("/", "-").trim()].slice(0, 60).join("");
  } catch {} // half of an escape
  return [".", ".."].includes(named) ? "lobby" : named || "lobby";
}

// The socket.

function connect() {
  clearTimeout(retry);
  leave();
  const url = new URL(`./chat/${encodeURIComponent(room())}`, location.href);
  url.hash = "";
  const asked = { name: kept["chat:name"], key: own.key, after: lastWhole(), _token: kept["streamapp:key"] ?? "" };
  for (const [name, value] of Object.entries(asked)) if (value) url.searchParams.set(name, value);
  const opening = (socket = new WebSocket(String(url).replace(/^http/, "ws")));
  let wasOpen = false;
  opening.onopen = () => (wasOpen = true);
  opening.onmessage = ({ data }) => hear(JSON.parse(data));
  opening.onclose = async ({ code, reason }) => {
    show("connecting again");
    const status = wasOpen ? code - 4000 : await refusal(url);
    if (opening !== socket) return; // another room has been chosen meanwhile
    if (status === 401) return ask(`This server ${asked._token ? "does not take this" : "asks for an"} API key.`, { wantsKey: true });
    if (status === 422) return ask(reason);
    retry = setTimeout(connect, Math.min(MOST_WAIT_MS, 500 * 2 ** tries++) * (0.5 + Math.random() / 2));
  };
  element("room").textContent = document.title = room();
  show("connecting");
}

function leave() {
  if (!socket) return;
  socket.onclose = socket.onmessage = null;
  socket.close();
}

/** A browser does not tell why a socket was refused; the same address, asked by HTTP, does. */
async function refusal(url) {
  const answer = await fetch(url, { redirect: "error" }).catch(() => undefined);
  return answer?.status ?? 0;
}

function say(said) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify(said));
}

/** The last message before the first that is not whole yet: what comes behind it is asked for again. */
function lastWhole() {
  const coming = messages.querySelector(".coming");
  return (coming ? coming.previousElementSibling : messages.lastElementChild)?.dataset.id ?? "";
}

const HEARD = {
  system({ you, model: { name }, members, history, is_resumed }) {
    tries = 0;
    own.id = you.id;
    model = name;
    text.placeholder = `Message, or @${model}`;
    people.clear();
    for (const { id, name } of members) people.set(id, name);
    if (!is_resumed && messages.childElementCount) {
      messages.replaceChildren();
      element("note").textContent = "The room was begun anew, or much was said meanwhile: this is what it still has.";
    }
    history.forEach(put);
    coming = history.find(({ state }) => state === "coming")?.id ?? "";
    const heard = history.filter(isOwn).map(({ content }) => content);
    unheard = unheard.filter((said) => !heard.includes(said));
    for (const message of unheard) say({ type: "user_message", message });
    show("connected");
    refresh();
    refreshPeople();
  },
  joined({ member: { id, name } }) {
    people.set(id, name);
    refreshPeople();
  },
  left({ member: { id } }) {
    people.delete(id);
    writing.delete(id);
    refresh();
    refreshPeople();
  },
  user_message(message) {
    put(message);
    writing.delete(message.author.id);
    if (isOwn(message)) unheard = unheard.filter((said) => said !== message.content);
    else announce(message);
    refresh();
  },
  user_typing({ id, typing }) {
    if (typing) writing.set(id, Date.now() + TYPING_SEEN_MS);
    else writing.delete(id);
    refresh();
    if (typing) setTimeout(refresh, TYPING_SEEN_MS + 100);
  },
  ai_typing({ typing, id }) {
    coming = typing ? id : "";
    if (typing) put({ id, role: "assistant", author: { id: "", name: model }, content: "", seq: 0, state: "coming" });
    refresh();
  },
  ai_message_partial({ id, seq, token }) {
    const item = find(id);
    if (!item || seq <= Number(item.dataset.seq)) return;
    item.dataset.seq = seq;
    keepingTheEnd(() => item.querySelector(".content").append(token));
  },
  ai_message_complete(message) {
    put(message);
    announce(message);
  },
  error({ error: { message } }) {
    element("note").textContent = message;
    text.value ||= unheard.pop() ?? "";
  },
};

function hear(heard) {
  HEARD[heard.type]?.(heard);
}

const isOwn = ({ role, author }) => role === "user" && author.id === own.id;

// The page.

function show(status) {
  element("status").textContent = status;
  element("status").className = status;
  element("composer").querySelector("[type=submit]").disabled = status !== "connected";
}

function refresh() {
  const now = Date.now();
  const who = [...writing].filter(([id, until]) => until > now && people.has(id)).map(([id]) => people.get(id));
  if (coming) who.push(model);
  const names = who.length > 3 ? `${who.length} people` : who.join(" and ");
  element("writing").textContent = who.length ? `${names} ${who.length > 1 ? "are" : "is"} writing` : "";
  element("stop").hidden = !coming;
}

function refreshPeople() {
  element("people").querySelector("summary").textContent = `${people.size} here`;
  const items = [...people].map(([id, name]) => made("li", "", made("bdi", "", name), made("small", "", id === own.id ? " (you)" : "")));
  items.push(made("li", "", made("bdi", "", model), made("small", "", " (the model)")));
  element("people").querySelector("ul").replaceChildren(...items);
}

function made(tag, className, ...content) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...content); // strings become text
  return node;
}

const find = (id) => messages.querySelector(`[data-id="${CSS.escape(id)}"]`);

/** Shows a message, in the place of what is shown of it. */
function put({ id, role, author, content, seq, state, error }) {
  const remark = { stopped: "stopped", failed: error ?? "the answer failed" }[state];
  const item = made("li", `${role} ${state}`, made("p", "author", made("bdi", "", author.name)), made("p", "content", content));
  if (remark) item.append(made("p", "remark", remark));
  if (isOwn({ role, author })) item.classList.add("own");
  Object.assign(item.dataset, { id, seq });
  keepingTheEnd(() => {
    const before = find(id);
    if (before) before.replaceWith(item);
    else messages.append(item);
    while (messages.childElementCount > SHOWN) messages.firstElementChild.remove();
  });
  return item;
}

/** Changes the list; who has its end before them sees its end afterwards, too. */
function keepingTheEnd(change) {
  const isAtEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
  change();
  if (isAtEnd) messages.scrollTop = messages.scrollHeight;
}

/** Has screen readers read what is whole, and no piece of an answer. */
function announce({ author, content }) {
  element("announcer").textContent = `${author.name}: ${content}`;
}

// What one does.

element("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = text.value.trim();
  if (!message || socket?.readyState !== WebSocket.OPEN) return;
  unheard.push(message);
  say({ type: "user_message", message });
  element("note").textContent = text.value = "";
  saidTypingAt = 0;
  messages.scrollTop = messages.scrollHeight;
});

text.addEventListener("keydown", (event) => {
  // Safari ends a composition before the key that ends it, and gives that the code 229 alone.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  element("composer").requestSubmit();
});

text.addEventListener("input", () => {
  const isTyping = text.value.trim() !== "";
  if (isTyping && Date.now() - saidTypingAt < TYPING_MS) return;
  if (isTyping || saidTypingAt) say({ type: "typing", typing: isTyping });
  saidTypingAt = isTyping ? Date.now() : 0;
});

element("stop").addEventListener("click", () => {
  say({ type: "cancel", id: coming });
  text.focus();
});

element("change").addEventListener("click", () => ask());

function ask(why = "", { wantsKey = false } = {}) {
  element("why").textContent = why;
  element("name").value = kept["chat:name"] ?? "";
  element("where").value = room();
  element("key-field").hidden = !wantsKey;
  element("key").required = wantsKey;
  element("key").value = "";
  if (!element("join").open) element("join").showModal();
  if (wantsKey) element("key").focus();
}

element("join").addEventListener("cancel", (event) => {
  if (!socket || socket.readyState === WebSocket.CLOSED) event.preventDefault(); // there is nothing behind it yet
});

element("join").querySelector("form").addEventListener("submit", () => {
  kept["chat:name"] = element("name").value.trim();
  if (element("key").value) kept["streamapp:key"] = element("key").value;
  const where = element("where").value.trim();
  if (where === room()) connect();
  else location.hash = encodeURIComponent(where);
});

element("join").addEventListener("close", () => text.focus()); // the dialog has given the focus back before

addEventListener("hashchange", () => {
  messages.replaceChildren();
  people.clear();
  writing.clear();
  unheard = [];
  if (kept["chat:name"]) connect();
});

addEventListener("online", () => kept["chat:name"] && connect());

if (!kept["chat:name"]) ask();
else {
  connect();
  text.focus();
}
