/** A server of WebSockets that says what the test says. */

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

import { JOB } from "./serving.js";

const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE = 8;

/** Give the first socket to the first script, the next to the next, and all others to the last. */
export async function talking(t, ...scripts) {
  const requests = [];
  const server = createServer((request, response) => { requests.push(request); response.end("{}"); });
  const sockets = new Set();
  server.on("upgrade", (request, tcp) => {
    requests.push(request);
    sockets.add(tcp.on("error", () => {}));
    const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + MAGIC).digest("base64");
    tcp.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: ${request.headers["sec-websocket-protocol"]}\r\n\r\n`,
    );
    (scripts.length > 1 ? scripts.shift() : scripts[0])(new SocketTalk(tcp), request);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => { server.close(); for (const tcp of sockets) tcp.destroy(); });
  return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

/** Answer each input with its data, and end when there are no more. */
export async function echo(socket) {
  await socket.begin();
  for (let frame, n = 1; (frame = await socket.next()).type !== "closed"; ) {
    if (frame.type === "finish") return socket.end();
    socket.send({ type: "received", n: frame.n });
    socket.event("output", frame.data, ++n);
  }
}

/** One connection, from the server's side; `write` is the transport's. */
export class Talk {
  #frames = [];
  #wake = () => {};

  /** Return the next message of the client's as it is; `{"type":"closed","code":...}` is the last. */
  async text() {
    while (!this.#frames.length) await new Promise((resolve) => (this.#wake = resolve));
    return this.#frames.shift();
  }

  /** Return the next message. */
  async next() {
    return JSON.parse(await this.text());
  }

  /** Return the next `count` messages. */
  async take(count) {
    const frames = [];
    while (frames.length < count) frames.push(await this.next());
    return frames;
  }

  send(...frames) {
    for (const frame of frames) this.write(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  /** Answer the client's first frame. */
  async begin(received = 0, resume_s = 10) {
    const first = await this.next();
    this.send({ type: "session", job_id: JOB, key: "k", received, resume_s });
    return first;
  }

  event(name, data, n) {
    this.send({ type: "event", event: name, id: n === undefined ? null : `${JOB}:1.${n}`, data });
  }

  /** End well. */
  end() {
    this.event("done", { job_id: JOB, status: "succeeded" });
    this.close(1000);
  }

  /** Take what the client says. */
  push(frame) {
    this.#frames.push(frame);
    this.#wake();
  }
}

/** One socket. */
class SocketTalk extends Talk {
  #tcp;
  #bytes = Buffer.alloc(0);

  constructor(tcp) {
    super();
    this.#tcp = tcp;
    tcp.on("data", (bytes) => this.#feed(bytes));
    tcp.on("close", () => this.push('{"type":"closed"}'));
  }

  write(text) {
    this.#write(1, text);
  }

  close(code, reason = "") {
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.#write(CLOSE, payload);
    this.#tcp.end();
  }

  /** Lose the connection. */
  cut() {
    this.#tcp.destroy();
  }

  /** Take nothing from the network until `resume`. */
  pause() {
    this.#tcp.pause();
  }

  resume() {
    this.#tcp.resume();
  }

  #write(opcode, payload) {
    const body = Buffer.from(payload);
    const size = body.length;
    const head = Buffer.alloc(size < 126 ? 2 : size < 65536 ? 4 : 10);
    head[0] = 0x80 | opcode;
    head[1] = size < 126 ? size : size < 65536 ? 126 : 127;
    if (head.length === 4) head.writeUInt16BE(size, 2);
    if (head.length === 10) head.writeBigUInt64BE(BigInt(size), 2);
    this.#tcp.write(Buffer.concat([head, body]));
  }

  #feed(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    for (let read; (read = readFrame(this.#bytes)); this.#bytes = this.#bytes.subarray(read.end)) {
      const { opcode, payload } = read;
      if (opcode === CLOSE) {
        this.push(JSON.stringify({ type: "closed", code: payload.length ? payload.readUInt16BE() : 1005 }));
        this.#write(CLOSE, payload);
        this.#tcp.end();
      } else if (opcode === 1) this.push(payload.toString());
    }
  }
}

/** Read a frame of a client, which is masked, and in one piece; undefined where it has not come in full. */
function readFrame(bytes) {
  if (bytes.length < 2) return undefined;
  const short = bytes[1] & 0x7f;
  const at = short === 126 ? 4 : short === 127 ? 10 : 2;
  if (bytes.length < at + 4) return undefined;
  const size = at === 4 ? bytes.readUInt16BE(2) : at === 10 ? Number(bytes.readBigUInt64BE(2)) : short;
  const end = at + 4 + size;
  if (bytes.length < end) return undefined;
  const mask = bytes.subarray(at, at + 4);
  const payload = Buffer.from(bytes.subarray(at + 4, end).map((byte, n) => byte ^ mask[n % 4]));
  return { opcode: bytes[0] & 0x0f, payload, end };
}
