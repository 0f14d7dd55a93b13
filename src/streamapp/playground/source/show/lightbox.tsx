/** Show an image on the whole screen, and those beside it. */

import { type KeyboardEvent, type MouseEvent, type PointerEvent, type TouchEvent, useEffect, useLayoutEffect, useRef, useState } from "react";

import { IconButton } from "../parts/icon";
import type { Media } from "../runs/content";
import { DownloadSign, fileName } from "./save";

const SWIPE_PX = 48;
const DRAG_PX = 4; // less is a click

export interface Picture {
  slot: string;
  media: Media;
}

interface LightboxProps {
  pictures: Picture[];
  alt: string;
  at: number;
  onChoose: (at: number) => void;
  onClose: () => void;
}

/** Fitted into the window, or at its own size, to be moved around; arrow keys go to the next, Escape closes. */
export function Lightbox({ pictures, alt, at, onChoose, onClose }: LightboxProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [size, setSize] = useState("");
  const [isWhole, setWhole] = useState(true);
  const { media } = pictures[at]!;
  const count = pictures.length;
  useEffect(() => dialog.current!.showModal(), []);
  const step = (by: number) => {
    setWhole(true);
    onChoose((at + by + count) % count);
  };
  const keys = ({ key }: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (by && isWhole && count > 1) step(by);
  };
  return (
    <dialog ref={dialog} className="lightbox" aria-label="Zoomed image" onClose={onClose} onKeyDown={keys}>
      <div className="bar">
        <span className="note" aria-live="polite">{[count > 1 && `${at + 1} of ${count}`, size].filter(Boolean).join(" · ")}</span>
        <button type="button" className="quiet" onClick={() => setWhole(!isWhole)}>{isWhole ? "100 %" : "Fit"}</button>
        <DownloadSign media={media} name={fileName(media, count > 1 ? `${alt}-${at + 1}` : alt)} />
        <IconButton sign="close" name="Close" onClick={() => dialog.current!.close()} />
      </div>
      <View key={at} url={media.url} alt={alt} isWhole={isWhole} onWhole={setWhole} onSize={setSize}
        onClose={() => dialog.current!.close()} onSwipe={count > 1 ? step : () => {}} />
      {count > 1 && (
        <>
          <IconButton className="side before" sign="before" name="Previous image" onClick={() => step(-1)} />
          <IconButton className="side after" sign="after" name="Next image" onClick={() => step(1)} />
        </>
      )}
    </dialog>
  );
}

interface ViewProps {
  url: string;
  alt: string;
  isWhole: boolean;
  onWhole: (isWhole: boolean) => void;
  onSize: (size: string) => void;
  onClose: () => void;
  onSwipe: (by: number) => void;
}

/** A click on the image changes its size around that point, one beside it closes. */
function View({ url, alt, isWhole, onWhole, onSize, onClose, onSwipe }: ViewProps) {
  const room = useRef<HTMLDivElement>(null);
  const image = useRef<HTMLImageElement>(null);
  const point = useRef<[number, number]>(undefined);
  const held = useRef({ x: 0, y: 0, isDragged: false });
  const touched = useRef(0);
  useLayoutEffect(() => {
    const { scrollWidth, scrollHeight, clientWidth, clientHeight } = room.current!;
    const [x, y] = point.current ?? [0.5, 0.5];
    room.current!.scrollTo(x * scrollWidth - clientWidth / 2, y * scrollHeight - clientHeight / 2);
    point.current = undefined;
  }, [isWhole]);
  const click = (event: MouseEvent) => {
    if (held.current.isDragged) return;
    if (event.target !== image.current) return onClose();
    const { left, top, width, height } = image.current!.getBoundingClientRect();
    point.current = [(event.clientX - left) / width, (event.clientY - top) / height];
    onWhole(!isWhole);
  };
  const press = ({ clientX: x, clientY: y }: PointerEvent) => (held.current = { x, y, isDragged: false });
  const drag = ({ clientX, clientY, buttons, pointerType }: PointerEvent) => {
    const { x, y, isDragged } = held.current;
    if (isWhole || buttons !== 1 || pointerType !== "mouse") return; // a finger moves it by itself
    if (!isDragged && Math.hypot(clientX - x, clientY - y) < DRAG_PX) return;
    room.current!.scrollBy(x - clientX, y - clientY);
    held.current = { x: clientX, y: clientY, isDragged: true };
  };
  const lift = ({ changedTouches }: TouchEvent) => {
    const by = changedTouches[0]!.clientX - touched.current;
    if (isWhole && Math.abs(by) > SWIPE_PX) onSwipe(by < 0 ? 1 : -1);
  };
  return (
    <div ref={room} className={isWhole ? "room" : "room own"} tabIndex={isWhole ? -1 : 0} onClick={click} onPointerDown={press} onPointerMove={drag}
      onTouchStart={({ touches }) => (touched.current = touches[0]!.clientX)} onTouchEnd={lift}>
      <img ref={image} src={url} alt={`zoomed ${alt}`} draggable={false} onLoad={({ currentTarget: { naturalWidth, naturalHeight, style } }) => {
        style.setProperty("--ratio", String(naturalWidth / naturalHeight));
        onSize(`${naturalWidth} × ${naturalHeight}`);
      }} />
    </div>
  );
}
