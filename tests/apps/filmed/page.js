/** What the tests do in a page, and see of it. */

import { Client } from "./_streamapp/client.js";

const key = new URLSearchParams(location.search).get("key") ?? undefined;
const video = document.querySelector("video");

globalThis.outputs = [];
globalThis.told = [];

globalThis.connect = ({ path = "/paint", ...options }) => {
  const client = new Client(new URL(".", location.href), { key });
  const session = client.connect(path, { webrtc: true, ...options });
  video.srcObject = session.video;
  session.on("output", (data) => outputs.push(data));
  for (const name of ["connected", "reconnecting", "reconnected"]) session.on(name, () => told.push(name));
  session.on("done", () => told.push("done")).on("error", ({ code, message }) => told.push(`${code}: ${message}`));
  globalThis.session = session;
};

/** Say how wide the picture on show is, and of what colour in its middle. */
globalThis.seen = () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d");
  context.drawImage(video, video.videoWidth / 2, video.videoHeight / 2, 1, 1, 0, 0, 1, 1);
  return [video.videoWidth, ...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
};
