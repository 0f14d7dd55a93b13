/** A server of sessions by WebRTC that says what the test says; engines' peer connections are played, signalling is real. */

import { once } from "node:events";
import { createServer } from "node:http";

import { Talk } from "./talking.js";

export const ICE = { ice_servers: [{ urls: ["stun:127.0.0.1:1"] }] };

/** Give the first connection to the first script, the next to the next, and all others to the last. */
export async function peering(t, ...scripts) {
  const requests = [];
  const connections = played(t);
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { method, url, headers } = request;
    requests.push({ method, url, headers, body });
    response.writeHead(200, { "Content-Type": "application/json" });
    if (method === "GET" || !/\/webrtc/.test(url)) return response.end(JSON.stringify(ICE));
    const connection = connections.find(({ id }) => id === JSON.parse(body).sdp);
    connection.script = scripts.length > 1 ? scripts.shift() : scripts[0];
    response.end(JSON.stringify({ type: "answer", sdp: connection.id }));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => { server.close(); server.closeAllConnections(); });
  return { url: `http://127.0.0.1:${server.address().port}`, requests, connections };
}

/** Have the engine make connections that are only played, and return those that were made. */
export function played(t) {
  const connections = [];
  globalThis.RTCPeerConnection = class extends PeerConnection {
    constructor(configuration) { super(configuration); connections.push(this); }
  };
  globalThis.MediaStream = Stream;
  t.after(() => { delete globalThis.RTCPeerConnection; delete globalThis.MediaStream; });
  return connections;
}

class Stream {
  tracks = [];
  getTracks() { return [...this.tracks]; }
  addTrack(track) { this.tracks.push(track); }
  removeTrack(track) { this.tracks = this.tracks.filter((other) => other !== track); }
}

/** As much of a peer connection as is asked for, with the server's side of its channel. */
class PeerConnection {
  static count = 0;
  id = `sdp ${PeerConnection.count++}`;
  connectionState = "new";
  iceGatheringState = "complete";
  script = () => {};
  track = {};
  talk = new PeerTalk(this);
  sent = [];

  constructor(configuration) { this.configuration = configuration; }

  addTransceiver(kind, { direction }) {
    Object.assign(this.track, { kind, direction });
    return { receiver: { track: this.track } };
  }

  createDataChannel(label) {
    return (this.channel = { label, readyState: "connecting", bufferedAmount: 0, close: () => this.end("closing") , send: (text) => this.hear(text) });
  }

  async setLocalDescription() { this.localDescription = { type: "offer", sdp: this.id }; }

  async setRemoteDescription({ sdp }) {
    if (sdp !== this.id) throw new Error(`Invalid SDP: ${sdp}`);
    if (this.script === null) return; // no way leads there
    setImmediate(() => {
      if (this.connectionState !== "new") return;
      this.turn("connected");
      this.channel.readyState = "open";
      this.channel.onopen();
      this.script(this.talk);
    });
  }

  hear(text) {
    this.sent.push(text);
    this.talk.hear(text);
  }

  turn(state) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  /** Lose the channel: by the other side, or by a network that is silent. */
  end(readyState, state = "connected") {
    if (this.channel.readyState !== "open") return;
    this.channel.readyState = readyState;
    this.talk.leave();
    if (readyState === "closed") this.channel.onclose();
    else if (state !== "connected") this.turn(state);
  }

  close() {
    this.end("closing");
    this.connectionState = "closed"; // which is told to nobody
  }
}

/** One connection, from the server's side. */
class PeerTalk extends Talk {
  #connection;
  #text = "";

  constructor(connection) {
    super();
    this.#connection = connection;
  }

  hear(text) {
    this.#text += text.slice(1);
    if (text[0] === "+") return;
    this.push(this.#text);
    this.#text = "";
  }

  leave() {
    this.push('{"type":"closed"}');
  }

  write(text) {
    const pieces = text.match(/[^]{1,16000}/gu);
    pieces.forEach((piece, n) => this.#connection.channel.onmessage({ data: (n < pieces.length - 1 ? "+" : ".") + piece }));
  }

  close(code, reason = "") {
    this.send({ type: "close", code, reason });
    this.cut();
  }

  cut() {
    this.#connection.end("closed");
  }

  /** Say nothing any more, not even that. */
  vanish() {
    this.#connection.end("open", "disconnected");
  }
}
