/** Send the drawing while it is drawn, and show the pictures that come back; the newest counts, either way. */

import { Client } from "./_streamapp/client.js";
import { Board } from "./board.js";

// Those that the small model knows.
const COLOURS = {
  red: "#dc1e23", orange: "#fa8714", yellow: "#fae128", green: "#1e963c", cyan: "#28cde1",
  blue: "#1e46dc", purple: "#7d28a5", pink: "#fa96cd", black: "#0f0f0f", white: "#f5f5f5",
};
const SEND_EVERY_MS = 100;
const RATE_OVER_MS = 2000;
const AGAIN_MS = 1000;
const KEY = "streamapp:key"; // as in the pages of other apps: it is asked for once

const [prompt, picture, video, strength, steps, seed, webrtc] =
  ["prompt", "picture", "video", "strength", "steps", "seed", "webrtc"].map(byId);
const board = new Board(byId("board"), byId("cursor"));

let session;
let key = recall();
let changedAt = 0;
let sentAt = 0;
let timer;
let isDue = false;
let count = 0;
const asked = new Map(); // when what was sent had been drawn, by its number
let shownAt = [];

function byId(id) {
  return document.getElementById(id);
}

/** Have what is drawn and set now sent. */
function change() {
  changedAt = performance.now();
  isDue = true;
  byId("undo").disabled = !board.canUndo;
  sendDue();
}

/** Send what has changed: at once where all is answered, else from time to time: what a busy server drops costs it time. */
function sendDue() {
  clearTimeout(timer);
  if (!isDue) return;
  const wait = asked.size ? sentAt + SEND_EVERY_MS - performance.now() : 0;
  if (wait > 0) timer = setTimeout(sendDue, wait);
  else send();
}

async function send() {
  isDue = false;
  sentAt = performance.now();
  const n = ++count;
  asked.set(n, changedAt);
  const image_url = await board.picture();
  // Where a number is not given the server's own counts; JSON leaves it out.
  const [num_inference_steps, own] = [steps, seed].map((field) => (field.value === "" ? undefined : field.valueAsNumber));
  session.send({ prompt: prompt.value, image_url, strength: strength.valueAsNumber, num_inference_steps, seed: own, request_id: `${n}` });
}

/** Show a picture. */
async function show({ images: [image], request_id }) {
  tell("connected", "good");
  const isVideo = image.content_type === "video";
  [picture.hidden, video.hidden] = [isVideo, !isVideo];
  if (isVideo) {
    video.requestVideoFrameCallback(() => measure(Number(request_id))); // an image and its event come apart
    return;
  }
  Object.assign(picture, { src: image.url, alt: prompt.value });
  await picture.decode().then(() => measure(Number(request_id)), () => {}); // else a newer one has taken its place
}

/** Tell how long it took from the last stroke that is in a picture until that is seen. */
function measure(n) {
  const now = performance.now();
  shownAt = [...shownAt.filter((at) => now - at < RATE_OVER_MS), now];
  byId("rate").textContent = shownAt.length > 1 ? ((1000 * (shownAt.length - 1)) / (now - shownAt[0])).toFixed(1) : "–";
  if (!asked.has(n)) return; // it was asked for before the connection was lost
  byId("latency").textContent = Math.round(now - asked.get(n));
  for (const older of [...asked.keys()].filter((other) => other <= n)) asked.delete(older);
  sendDue();
}

/** Hold a session, and another one when it is over: the server may be started anew, or want its key. */
async function converse() {
  for (;;) {
    const client = new Client(new URL(".", location.href), { key });
    session = client.connect("/realtime", { newest: true, webrtc: webrtc.checked });
    session.on("connected", () => tell("connected", "good"));
    session.on("reconnected", () => tell("connected", "good"));
    session.on("reconnecting", () => tell("the connection was lost; trying again"));
    video.srcObject = session.video;
    asked.clear();
    change();
    try {
      for await (const { name, data } of session) {
        if (name === "output") show(data);
        if (name === "input_error") {
          tell(data.error.message, "bad");
          asked.clear();
        }
      }
      tell("connecting"); // by the other way: the switch was used
    } catch (error) {
      await recover(error);
    }
  }
}

async function recover(error) {
  if (error.code === "unauthorized") return askForKey();
  const isRefused = webrtc.checked && error.code === "connection_failed" && !error.retryable;
  tell(isRefused ? "WebRTC does not get through here; going on by WebSocket" : error.message, "bad");
  if (isRefused) webrtc.checked = false;
  await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
}

function askForKey() {
  const dialog = byId("asks");
  const why = `This server ${key ? "does not take this" : "asks for its"} key`;
  byId("asks-why").textContent = why;
  byId("key").value = "";
  tell(why, "bad");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => dialog.showModal(); // there is nothing to go on with
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      keep((key = byId("key").value));
      dialog.onclose = resolve;
      dialog.close();
    };
  });
}

function tell(text, kind = "") {
  const status = byId("status");
  if (status.textContent !== text) Object.assign(status, { textContent: text, className: kind }); // else it is read out again
}

// With cookies blocked already looking throws.
function recall() {
  try {
    return sessionStorage.getItem(KEY) ?? undefined;
  } catch {
    return undefined;
  }
}

function keep(text) {
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // it is asked for again when the page is opened anew
  }
}

for (const [name, value] of Object.entries(COLOURS)) {
  const colour = Object.assign(document.createElement("input"), { type: "radio", name: "colour", value, title: name, ariaLabel: name });
  colour.style.backgroundColor = value;
  colour.addEventListener("change", () => (board.colour = value));
  byId("colours").append(colour);
}
byId("colours").querySelector("input").click();
board.size = byId("size").valueAsNumber;
byId("size").addEventListener("input", ({ target }) => (board.size = target.valueAsNumber));
byId("undo").addEventListener("click", () => board.undo());
byId("fill").addEventListener("click", () => board.fill(board.colour));
byId("clear").addEventListener("click", () => board.fill());
board.addEventListener("change", change);
for (const field of [prompt, strength, steps, seed]) field.addEventListener("input", change);
strength.addEventListener("input", () => (byId("strength-said").textContent = strength.value));
webrtc.addEventListener("change", () => session.cancel());
document.addEventListener("keydown", (event) => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && !event.target.matches("input[type=number], input:not([type])")) {
    event.preventDefault();
    if (board.canUndo) board.undo();
  }
});
converse();
