/** The strip of past runs. */

import { type KeyboardEvent, type RefObject, useEffect, useId, useRef, useState, useSyncExternalStore } from "react";

import { Icon } from "../parts/icon";
import { useBriefly } from "../parts/now";
import { imageIn } from "../runs/content";
import type { Past } from "../runs/history";
import { seconds } from "../runs/quantities";
import type { Run } from "../runs/run";
import { textIn, Thumb, thumbOf } from "../show/thumb";

const WORDS: Record<Past["status"], string> = {
  sought: "Running", queued: "Queued", running: "Running", reconnecting: "Running", succeeded: "Done", cancelled: "Cancelled", failed: "Failed", unknown: "Unknown",
};
const UNDO_MS = 10_000;
const EDGE_PX = 32; // that may be faded

interface PastsProps {
  pasts: Past[];
  /** The id of the one that is on the stage. */
  shown: string | undefined;
  /** Whether any run is, also one that is not among these. */
  isShown: boolean;
  runOf: (jobId: string) => Run | undefined;
  onChoose: (jobId: string) => void;
  /** Show none. */
  onNew: () => void;
  /** Forget all; returns what takes them back. */
  onForget: () => () => void;
}

/** A thumbnail for each run of this browser, the newest first. */
export function Pasts({ pasts, shown, isShown, runOf, onChoose, onNew, onForget }: PastsProps) {
  const [undo, offer] = useBriefly<(() => void) | undefined>(UNDO_MS);
  if (undo) {
    return (
      <section aria-label="History" className="history">
        <p className="note" role="alert">Cleared</p>
        <button type="button" className="quiet" autoFocus onClick={() => {
          undo();
          offer(undefined);
        }}>Undo</button>
      </section>
    );
  }
  if (!pasts.length) return null;
  return (
    <section aria-label="History" className="history">
      <button type="button" className="new" title="Back to the beginning" aria-current={!isShown} onClick={onNew}><Icon sign="plus" /><span>New</span></button>
      <Tiles {...{ pasts, shown, runOf, onChoose }} />
      <button type="button" className="quiet" onClick={() => offer(onForget())}>Clear</button>
    </section>
  );
}

/** One stop for the Tab key; arrow keys go from one to the next. */
function Tiles({ pasts, shown, runOf, onChoose }: Pick<PastsProps, "pasts" | "shown" | "runOf" | "onChoose">) {
  const list = useRef<HTMLOListElement>(null);
  const [looked, look] = useState<string>();
  useFades(list, pasts.length);
  const stop = pasts.some(({ jobId }) => jobId === shown) ? shown : pasts[0]!.jobId;
  useEffect(() => {
    const tile = list.current!.querySelector<HTMLElement>("li:has([aria-current=true])");
    if (!tile) return;
    const { scrollLeft, clientWidth } = list.current!;
    const [least, most] = [tile.offsetLeft + tile.offsetWidth + EDGE_PX - clientWidth, tile.offsetLeft - EDGE_PX];
    list.current!.scrollTo({ left: Math.min(Math.max(scrollLeft, least), most) }); // `scrollIntoView` would move the page, too
  }, [shown]);
  const move = (event: KeyboardEvent) => {
    const all = [...list.current!.querySelectorAll("button")];
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Escape") look(undefined);
    if (to === undefined) return;
    event.preventDefault();
    all[Math.min(Math.max(to, 0), all.length - 1)]!.focus();
  };
  return (
    <ol ref={list} onKeyDown={move}>
      {pasts.map((past) => (
        <Tile key={past.jobId} past={past} run={runOf(past.jobId)} isShown={past.jobId === shown} isStop={past.jobId === stop} isLooked={past.jobId === looked}
          onLook={(isOn) => look(isOn ? past.jobId : undefined)} onChoose={() => onChoose(past.jobId)} />
      ))}
    </ol>
  );
}

/** Fade the edges behind which there is more. */
function useFades(list: RefObject<HTMLOListElement | null>, count: number): void {
  useEffect(() => {
    const { current } = list;
    const tell = () => {
      const { scrollLeft, scrollWidth, clientWidth } = current!;
      current!.classList.toggle("before", scrollLeft > 4);
      current!.classList.toggle("behind", scrollLeft + clientWidth < scrollWidth - 4);
    };
    tell();
    const sized = new ResizeObserver(tell);
    sized.observe(current!);
    current!.addEventListener("scroll", tell, { passive: true });
    return () => {
      sized.disconnect();
      current!.removeEventListener("scroll", tell);
    };
  }, [list, count]);
}

interface TileProps {
  past: Past;
  /** Where this page reads it, or has. */
  run: Run | undefined;
  isShown: boolean;
  isStop: boolean;
  isLooked: boolean;
  onLook: (isOn: boolean) => void;
  onChoose: () => void;
}

function Tile({ past, run, isShown, isStop, isLooked, onLook, onChoose }: TileProps) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const isGoing = run !== undefined && !run.isOver;
  useSyncExternalStore(isGoing ? run.subscribe : nothing, () => (isGoing ? run.version : 0));
  const thumb = thumbOf(past);
  const { step, total } = (isGoing && run.progress) || {};
  return (
    <li>
      <button ref={button} type="button" className={past.status} tabIndex={isStop ? 0 : -1} aria-current={isShown} aria-describedby={id} onClick={onChoose}
        onPointerEnter={({ pointerType }) => pointerType === "mouse" && onLook(true)} onPointerLeave={() => onLook(false)}
        onFocus={({ target }) => onLook(target.matches(":focus-visible"))} onBlur={() => onLook(false)}>
        <Thumb {...thumb} picture={(isGoing && imageIn(run.frames.at(-1)?.contents ?? [])?.url) || thumb.picture} />
        <span className="note">{WORDS[past.status]}</span>
        {total && <span className="share" ref={(line) => void line?.style.setProperty("width", `${Math.min(100, (100 * (step ?? 0)) / total)}%`)} />}
      </button>
      <About id={id} past={past} of={isLooked ? button : undefined} />
    </li>
  );
}

const nothing = () => () => {};

/** What a past run was, on a card above it; it is its description, seen or not. */
function About({ id, past: { path, input, ms, seed, at }, of }: { id: string; past: Past; of: RefObject<HTMLElement | null> | undefined }) {
  const card = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const { current } = card;
    if (!of || !current) return;
    current.showPopover();
    const { top, left, width } = of.current!.getBoundingClientRect();
    const least = of.current!.closest("ol")!.getBoundingClientRect().left;
    const own = current.getBoundingClientRect();
    const most = document.documentElement.clientWidth - own.width - 8;
    current.style.setProperty("left", `${Math.min(Math.max(least, left + width / 2 - own.width / 2), most)}px`);
    current.style.setProperty("top", `${top - own.height - 8}px`);
    return () => current.hidePopover();
  }, [of]);
  const facts = [ms === undefined ? "" : seconds(ms), seed === undefined ? "" : `seed ${seed}`, new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })];
  return (
    <div ref={card} id={id} popover="manual" role="tooltip" className="about-past">
      <p className="asked">{textIn(input) || path}</p>
      <p className="facts">{[textIn(input) ? path : "", ...facts].filter(Boolean).join(" · ")}</p>
    </div>
  );
}
