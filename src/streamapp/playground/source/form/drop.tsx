/** Where files come in: dropped, pasted, chosen, photographed, or named by a URL. */

import { type DragEvent as ReactDragEvent, type KeyboardEvent, type ReactNode, type RefObject, useEffect, useRef, useState } from "react";
import { flushSync } from "react-dom";

import { Icon } from "../parts/icon";
import { lately } from "../parts/lately";
import { bytesOf, isOwn, typeIn } from "../runs/content";
import type { MediaKind } from "../runs/schema";

const Camera = lately(async () => (await import("./camera")).Camera);

/** One file, several, and which there are. */
export const WORDS: Record<MediaKind, [one: string, several: string, formats: string]> = {
  image: ["an image", "images", "a PNG, JPEG, WebP or GIF"],
  audio: ["a sound", "sounds", "a WAV, MP3, Ogg, FLAC or M4A"],
  video: ["a video", "videos", "an MP4 or WebM"],
  file: ["a file", "files", "a file"],
};

interface DropProps {
  /** Of the field, whose label names the file input. */
  id: string;
  kind: MediaKind;
  isMany?: boolean;
  /** Whether it is empty, and asks for what it takes; else it shows its children. */
  isAsking: boolean;
  /** Whether a picture that is pasted somewhere on the page is meant for it, where no other waits. */
  isWaiting: boolean;
  /** What it says instead of the usual words. */
  words?: string;
  /** Beside the ways that it offers itself. */
  tools?: ReactNode;
  children?: ReactNode;
  onFiles: (files: File[]) => void;
  onUrl: (url: string) => void;
  /** Which of the ways it offers besides. */
  hasUrl: boolean;
  hasCamera: boolean;
}

/** The frame of a file field; all of it takes what is dropped or pasted. */
export function Drop(props: DropProps) {
  const { id, kind, isMany = false, isAsking, isWaiting, words, tools, children, onFiles, onUrl, hasUrl, hasCamera } = props;
  const frame = useRef<HTMLDivElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const [way, setWay] = useState<"camera" | "url">();
  const [problem, setProblem] = useState("");
  const [isOver, setOver] = useState(false);
  const close = () => {
    setWay(undefined);
    input.current!.focus();
  };
  const take = (files: File[]) => {
    const wrong = files.find((file) => !isOf(file, kind));
    const isOneTooMany = !isMany && files.length > 1;
    setProblem(wrong ? `${wrong.name} is not ${WORDS[kind][0]}. Choose ${WORDS[kind][2]}.` : isOneTooMany ? "Only one fits here: the first was taken." : "");
    setWay(undefined);
    const fitting = files.filter((file) => isOf(file, kind)).slice(0, isMany ? undefined : 1);
    if (fitting.length) onFiles(fitting);
  };
  const takeUrl = (url: string) => {
    setProblem("");
    close();
    onUrl(url);
  };
  usePlace({ frame, take, takeUrl, isWaiting });
  const hover = (event: ReactDragEvent) => setOver(bears(event.dataTransfer));
  const unhover = ({ relatedTarget }: ReactDragEvent) => !frame.current!.contains(relatedTarget as Node) && setOver(false);
  const [one] = WORDS[kind];
  return (
    <div ref={frame} className={`drop ${isAsking && way !== "camera" ? "asking" : "filled"} ${isOver ? "over" : ""}`}
      onDragEnter={hover} onDragLeave={unhover} onDrop={() => setOver(false)}>
      <input ref={input} id={id} className="unseen" type="file" multiple={isMany} accept={kind === "file" ? undefined : `${kind}/*`}
        aria-describedby={`${id}__description ${id}__error ${id}__problem`} tabIndex={isAsking ? 0 : -1}
        onChange={({ target }) => {
          take([...target.files!]);
          target.value = ""; // the same file may be chosen again
        }} />
      {way === "camera" ? <Camera onPicture={(picture) => { take([picture]); close(); }} onClose={close} />
        : isAsking ? <label className="ask" htmlFor={id}><Icon sign="bring" /><span>{words ?? asks(kind, isMany)}</span></label> : children}
      {way === "url" && <UrlField noun={one.replace(/^an? /, "")} onUrl={takeUrl} onClose={close} />}
      {!way && (tools || isAsking || isMany) && (
        <div className="ways">
          {tools}
          {hasCamera && (isAsking || isMany) && <button type="button" className="quiet" onClick={() => setWay("camera")}>Camera</button>}
          {hasUrl && (isAsking || isMany) && <button type="button" className="quiet" onClick={() => setWay("url")}>URL</button>}
        </div>
      )}
      <p id={`${id}__problem`} className="wrong" aria-live="polite">{problem}</p>
    </div>
  );
}

function asks(kind: MediaKind, isMany: boolean): string {
  const [one, several] = WORDS[kind];
  if (matchMedia("(pointer: coarse)").matches) return `Choose ${isMany ? several : one}`; // nothing is dropped by a finger
  return isMany ? `Drop ${several}, paste them, or choose files` : `Drop ${one}, paste it, or choose ${kind === "file" ? "one" : "a file"}`;
}

/** Open the chooser of a field. */
export function choose(id: string): void {
  document.getElementById(id)!.click();
}

const HOLDERS = /^(video\/(mp4|webm|ogg)|application\/ogg)$/; // may hold nothing but sound

/** Say whether a file can be what a field takes; of some the browser does not know the type, and the server looks. */
function isOf({ type }: File, kind: MediaKind): boolean {
  return kind === "file" || !type || type.startsWith(`${kind}/`) || (kind === "audio" && HOLDERS.test(type));
}

function UrlField({ noun, onUrl, onClose }: { noun: string; onUrl: (url: string) => void; onClose: () => void }) {
  const [text, setText] = useState("");
  const [isWrong, setWrong] = useState(false);
  const use = () => {
    const url = text.trim();
    if (isUrl(url)) onUrl(url);
    else if (url) setWrong(true);
  };
  const press = (event: KeyboardEvent) => {
    if (event.key === "Escape") onClose();
    if (event.key !== "Enter") return;
    if (!event.ctrlKey && !event.metaKey) event.preventDefault(); // with them it runs, and with what is written here
    flushSync(use);
  };
  return (
    <>
      <div className="line url-line">
        <input type="text" inputMode="url" autoComplete="off" spellCheck={false} autoFocus aria-label={`URL of the ${noun}`} placeholder="https://"
          aria-invalid={isWrong} value={text} onChange={({ target }) => { setText(target.value); setWrong(false); }} onKeyDown={press} />
        <button type="button" onClick={use}>Use</button>
        <button type="button" className="quiet" onClick={onClose}>Close</button>
      </div>
      {isWrong && <p className="wrong" role="alert">That is not a URL: it begins with https:// or http://.</p>}
    </>
  );
}

function isUrl(text: string): boolean {
  return /^(https?:\/\/|data:)/i.test(text) && URL.canParse(text);
}

/** A field that takes files, for what is dropped or pasted anywhere on the page. */
interface Place {
  frame: RefObject<HTMLElement | null>;
  take: (files: File[]) => void;
  takeUrl: (url: string) => void;
  isWaiting: boolean;
}

const places = new Set<RefObject<Place>>();
const LISTENERS: [string, (event: any) => void][] = [["paste", paste], ["drop", drop], ["dragover", allow]];

function usePlace(place: Place): void {
  const newest = useRef(place);
  newest.current = place;
  useEffect(() => {
    if (!places.size) LISTENERS.forEach(([name, listener]) => document.addEventListener(name, listener));
    places.add(newest);
    return () => {
      places.delete(newest);
      if (!places.size) LISTENERS.forEach(([name, listener]) => document.removeEventListener(name, listener));
    };
  }, []);
}

function placeAt(node: EventTarget | Element | null): Place | undefined {
  return [...places].map(({ current }) => current).find(({ frame }) => frame.current?.contains(node as Node));
}

/** Return the place that a picture is meant for which came beside all: the only one that waits for one. */
function onlyPlace(held: DataTransfer): Place | undefined {
  const waiting = [...places].map(({ current }) => current).filter(({ isWaiting }) => isWaiting);
  const isPicture = [...held.files].some(({ type }) => type.startsWith("image/"));
  return isPicture && waiting.length === 1 ? waiting[0] : undefined;
}

function paste(event: ClipboardEvent): void {
  const { target, clipboardData: held } = event;
  // Where nothing can be written the browser pastes into the body, whatever has the focus.
  const place = placeAt(target) ?? placeAt(document.activeElement);
  const isWriting = target instanceof HTMLElement && target.matches("textarea, input:not([type=file]), [contenteditable]");
  if (!held || (isWriting && (!place || held.types.includes("text/plain")))) return;
  bring(event, held, place ?? onlyPlace(held));
}

function drop(event: DragEvent): void {
  const held = event.dataTransfer;
  if (held && bears(held)) bring(event, held, placeAt(event.target) ?? onlyPlace(held));
}

function bring(event: Event, held: DataTransfer, place: Place | undefined): void {
  const files = [...held.files];
  const url = (held.getData("text/uri-list") || held.getData("text/plain")).trim();
  if (files.length) event.preventDefault(); // else the browser would leave the page for the file
  if (!place) return;
  if (files.length && !(isUrl(url) && isOwn(url))) return place.take(files);
  if (!isUrl(url)) return;
  event.preventDefault();
  if (/^data:/i.test(url)) fileIn(url).then((file) => place.take([file]), () => {});
  else place.takeUrl(url);
}

/** Return what a data URI holds as a file: a result that was dragged into a field. */
async function fileIn(uri: string): Promise<File> {
  const type = typeIn(uri);
  return new File([await bytesOf(uri)], `result.${type.split("/")[1] ?? "bin"}`, { type });
}

function bears({ types }: DataTransfer): boolean {
  return types.includes("Files") || types.includes("text/uri-list");
}

function allow(event: DragEvent): void {
  const held = event.dataTransfer;
  if (held?.types.includes("Files") || (held && bears(held) && placeAt(event.target))) event.preventDefault();
}
