// Point fal's JavaScript client at STREAMAPP_URL: loaded by every node whose NODE_OPTIONS --import this file.
// Its hosts are written into the package, so the two doors through which it leaves are changed instead.
const server = (process.env.STREAMAPP_URL ?? "http://127.0.0.1:8000").replace(/\/+$/, "");
const prefixes = {
  "fal.run": "/run",
  "queue.fal.run": "/queue",
  "ws.fal.run": "/ws",
  "rest.fal.ai": "/rest",
  "rest.alpha.fal.ai": "/rest",
};

/** Return where a request to `url` goes: to the server if it was meant for one of fal's hosts. */
function redirect(url) {
  if (!URL.canParse(url)) return url;
  const { host, protocol, pathname, search } = new URL(url);
  if (!Object.hasOwn(prefixes, host)) return url;
  const base = protocol === "wss:" ? server.replace(/^http/, "ws") : server;
  return base + prefixes[host] + pathname + search;
}

const { fetch, WebSocket } = globalThis;

globalThis.fetch = (input, init) =>
  fetch(input instanceof Request ? new Request(redirect(input.url), input) : redirect(input), init);

if (WebSocket !== undefined) {
  globalThis.WebSocket = class extends WebSocket {
    constructor(url, ...others) {
      super(redirect(url), ...others);
    }
  };
} else {
  process.on("uncaughtExceptionMonitor", ({ message }) => {
    if (message !== "WebSocket is not defined") return;
    console.error(`node ${process.version} has WebSockets with NODE_OPTIONS=--experimental-websocket, node 22 without`);
  });
}
