// Bundled with React by client_sdk/js/test/pages.test.js.
import { createElement as h, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Client } from "streamapp-client";
import { useSession, useStream } from "streamapp-client/react";

const client = new Client("/");

function Painting() {
  const { status, preview, result, error, start, cancel } = useStream(client, "/stream");
  return h(
    "div",
    null,
    h("button", { id: "start", onClick: () => start({ prompt: "a red circle" }) }),
    h("button", { id: "fail", onClick: () => start({ prompt: "fail" }) }),
    h("button", { id: "long", onClick: () => start({ prompt: "long", steps: 10_000_000 }) }),
    h("button", { id: "cancel", onClick: cancel }),
    preview && h("img", { src: preview.image.url, alt: "" }),
    h("p", { id: "status" }, [status, result?.prompt, error?.code].filter(Boolean).join(" ")),
  );
}

function Canvas({ path, webrtc }) {
  const { status, output, preview, inputError, error, video, send, finish, cancel } = useSession(client, path, { webrtc });
  window.sendLate = () => send({ x: 0 });
  const [x, count] = useState(1);
  return h(
    "div",
    null,
    h("button", { id: "point", onClick: () => { send({ x }); count(x + 1); } }),
    h("button", { id: "off", onClick: () => send({ x: -1 }) }),
    h("button", { id: "finish", onClick: finish }),
    h("button", { id: "leave", onClick: cancel }),
    preview && h("img", { id: "sketch", src: preview.image.url, alt: "" }),
    h("p", { id: "session" }, [status, output?.x, inputError?.error.code, error?.code, video?.constructor.name].filter(Boolean).join(" ")),
  );
}

function Page() {
  const [isShown, show] = useState(true);
  const [path, go] = useState("/canvas");
  const [webrtc, film] = useState(false);
  return h(
    "div",
    null,
    h("button", { id: "hide", onClick: () => show(false) }),
    h("button", { id: "elsewhere", onClick: () => go("/canvas?max_buffering=1") }),
    isShown && h(Painting),
    h("button", { id: "film", onClick: () => film(true) }),
    isShown && h(Canvas, { path, webrtc }),
  );
}

createRoot(document.getElementById("root")).render(h(StrictMode, null, h(Page)));
