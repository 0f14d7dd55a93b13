/** Copy texts and images, and say whether the browser has let this page do it. */

import { pictureAt } from "../runs/picture";
import { Icon, IconButton } from "./icon";
import { useBriefly } from "./now";

/** What there is to say where it has not. */
export const NOT_COPIED = "The browser does not let this page copy";
const DONE = "Copied";
const NOTED_MS = 2000;

/** A button that copies a text, and says so: in its own place, so that nothing moves. */
export function CopyButton({ name, text }: { name: string; text: () => string }) {
  const [isDone, note] = useBriefly<boolean>(NOTED_MS);
  return (
    <span className="copy">
      {isDone === false && <span className="note" role="alert">{NOT_COPIED}.</span>}
      <span className="unseen" aria-live="polite">{isDone && DONE}</span>
      <button type="button" className="quiet" onClick={async () => note(await copied(text()))}>
        <Icon sign={isDone ? "check" : "copy"} />
        <span data-or={isDone ? name : DONE}>{isDone ? DONE : name}</span>
      </button>
    </span>
  );
}

/** The same as a sign alone, for whatever can be copied. */
export function CopySign({ name, copy }: { name: string; copy: () => Promise<boolean> }) {
  const [isDone, note] = useBriefly<boolean>(NOTED_MS);
  return (
    <>
      <IconButton sign={isDone ? "check" : "copy"} name={name} onClick={async () => note(await copy())} />
      <span className="unseen" aria-live="polite">{isDone === undefined ? "" : isDone ? DONE : NOT_COPIED}</span>
    </>
  );
}

/** Copy a text also where there is no clipboard API: on pages without TLS, except the own machine's. */
export async function copied(text: string): Promise<boolean> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  return isDone;
}

/** Whether images can be copied: browsers let only pages over https, or of the own machine. */
export const CAN_COPY_IMAGES = typeof navigator.clipboard?.write === "function" && typeof ClipboardItem === "function";

/** Copy the image at a URL, which browsers take as PNG alone. */
export async function copiedImage(url: string): Promise<boolean> {
  if (!CAN_COPY_IMAGES) return false;
  return navigator.clipboard.write([new ClipboardItem({ "image/png": pngOf(url) })]).then(() => true, () => false);
}

async function pngOf(url: string): Promise<Blob> {
  const image = await pictureAt(url);
  if (!image) throw new Error("no picture");
  const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
  canvas.getContext("2d")!.drawImage(image, 0, 0);
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png"));
}
