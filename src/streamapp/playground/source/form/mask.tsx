/** Paint a mask on an image, by mouse, finger, pen or keys. */

import { type KeyboardEvent, type PointerEvent, useEffect, useReducer, useRef, useState } from "react";

import { pictureAt } from "../runs/picture";
import type { Pixels } from "./known";
import { brushWidth, type Point, Strokes } from "./strokes";

interface PainterProps {
  /** The URL of an image of this server. */
  image: string;
  /** One to begin with. */
  mask: string | undefined;
  onDone: (mask: File) => void;
  onClose: () => void;
}

const ARROWS: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const [SMALLEST, USUAL, LARGEST] = [1, 8, 40]; // percent of the longer side
const ERASER = 32; // of a pen, among its buttons

/** A dialog with the image, and what is painted over it. */
export default function Painter({ image, mask, onDone, onClose }: PainterProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const ring = useRef<HTMLDivElement>(null);
  const strokes = useRef<Strokes>(undefined);
  const at = useRef<Point>([0, 0]);
  const drawing = useRef<number | "key">(undefined);
  const [size, setSize] = useState<Pixels>();
  const [problem, setProblem] = useState("");
  const [erases, setErases] = useState(false);
  const [percent, setPercent] = useState(USUAL);
  const [, refresh] = useReducer((n: number) => n + 1, 0);
  const width = size ? brushWidth(size, percent) : 1;

  useEffect(() => dialog.current!.showModal(), []);
  useEffect(() => {
    if (!size) return;
    moveTo([size[0] / 2, size[1] / 2]);
    canvas.current!.focus();
    const begin = async () => {
      const sheet = new Strokes(canvas.current!);
      const before = mask && (await pictureAt(mask));
      if (before) sheet.load(before);
      strokes.current = sheet;
      refresh();
    };
    begin();
  }, [size, mask]);

  const moveTo = ([x, y]: Point) => {
    const [right, bottom] = size!;
    at.current = [x, y];
    ring.current!.style.left = `${(100 * x) / right}%`;
    ring.current!.style.top = `${(100 * y) / bottom}%`;
  };
  const pointOf = ({ clientX, clientY }: { clientX: number; clientY: number }): Point => {
    const { left, top, width: shown } = canvas.current!.getBoundingClientRect();
    const scale = size![0] / shown;
    return [(clientX - left) * scale, (clientY - top) * scale];
  };
  const begin = (by: number | "key", point: Point, isEraser: boolean) => {
    drawing.current = by;
    strokes.current!.begin(isEraser, width, point);
    refresh();
  };
  const press = (event: PointerEvent) => {
    if (!strokes.current || drawing.current !== undefined || (event.button !== 0 && !(event.buttons & ERASER))) return;
    canvas.current!.setPointerCapture(event.pointerId);
    moveTo(pointOf(event));
    begin(event.pointerId, at.current, erases || (event.buttons & ERASER) > 0);
  };
  const draw = (event: PointerEvent) => {
    if (drawing.current === undefined || drawing.current === event.pointerId) moveTo(pointOf(event));
    if (drawing.current !== event.pointerId) return;
    const between = event.nativeEvent.getCoalescedEvents?.() ?? [];
    for (const each of between.length ? between : [event]) strokes.current!.extend(pointOf(each));
  };
  const lift = ({ pointerId }: PointerEvent) => {
    if (drawing.current === pointerId) drawing.current = undefined;
  };
  const steer = (event: KeyboardEvent) => {
    const by = ARROWS[event.key];
    if (by) {
      const step = Math.max(1, width / 4) * (event.shiftKey ? 4 : 1);
      const [x, y] = at.current.map((place, axis) => Math.min(size![axis]!, Math.max(0, place + step * by[axis]!)));
      moveTo([x!, y!]);
      if (drawing.current === "key") strokes.current!.extend(at.current);
    } else if (event.key === " ") {
      if (strokes.current && drawing.current === undefined) begin("key", at.current, erases);
    } else if (event.key === "[" || event.key === "]") {
      setPercent(Math.min(LARGEST, Math.max(SMALLEST, percent + (event.key === "]" ? 1 : -1))));
    } else return;
    event.preventDefault();
  };
  const release = (event: KeyboardEvent) => {
    if (event.key === " " && drawing.current === "key") drawing.current = undefined;
  };
  const act = (change: (strokes: Strokes) => void) => () => {
    change(strokes.current!);
    refresh();
  };
  const [undo, redo] = [act((them) => them.undo()), act((them) => them.redo())];
  const undoByKey = (event: KeyboardEvent) => {
    event.stopPropagation(); // the form beneath has keys of its own
    if (!strokes.current || !(event.ctrlKey || event.metaKey) || !/^[zy]$/i.test(event.key)) return;
    event.preventDefault();
    (event.shiftKey || event.key.toLowerCase() === "y" ? redo : undo)();
  };
  const done = async () => {
    onDone(await strokes.current!.file());
    dialog.current!.close();
  };

  const { canUndo = false, canRedo = false, isEmpty = true } = strokes.current ?? {};
  const shape = (stage: HTMLDivElement | null) => void (size && stage?.style.setProperty("--ratio", String(size[0] / size[1])));
  return (
    <dialog ref={dialog} className="painter" aria-labelledby="painter" onClose={onClose} onKeyDown={undoByKey}>
      <header>
        <h2 id="painter">Paint the mask</h2>
        <p className="note">Paint over what is to change.</p>
      </header>
      <div className="easel">
        {problem ? <p className="wrong" role="alert">{problem}</p> : (
          <div className="canvas" ref={shape}>
            <img src={image} alt="" draggable={false} onError={() => setProblem("The browser cannot show the image, or the server no longer has it. Choose it again.")}
              onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => setSize([naturalWidth, naturalHeight])} />
            {size && (
              <>
                <canvas ref={canvas} width={size[0]} height={size[1]} tabIndex={0} role="application" aria-label="Mask" aria-describedby="painter-keys"
                  onPointerDown={press} onPointerMove={draw} onPointerUp={lift} onPointerCancel={lift} onKeyDown={steer} onKeyUp={release} />
                <div className="ring" ref={(element) => {
                  ring.current = element;
                  element?.style.setProperty("width", `${(100 * width) / size[0]}%`);
                }} />
              </>
            )}
          </div>
        )}
      </div>
      <div className="paints">
        <div className="brushes" role="group" aria-label="Tool">
          <button type="button" aria-pressed={!erases} onClick={() => setErases(false)}>Brush</button>
          <button type="button" aria-pressed={erases} onClick={() => setErases(true)}>Eraser</button>
        </div>
        <label className="brush-size">Size
          <input type="range" min={SMALLEST} max={LARGEST} value={percent} onChange={({ target }) => setPercent(target.valueAsNumber)} />
        </label>
        <div className="ways">
          <button type="button" className="quiet" disabled={!canUndo} onClick={undo}>Undo</button>
          <button type="button" className="quiet" disabled={!canRedo} onClick={redo}>Redo</button>
          <button type="button" className="quiet" disabled={isEmpty} onClick={act((them) => them.clear())}>Clear</button>
          <button type="button" className="quiet" disabled={!strokes.current} onClick={act((them) => them.invert())}>Invert</button>
        </div>
        <div className="ways end">
          <button type="button" onClick={() => dialog.current!.close()}>Cancel</button>
          <button type="button" className="main" disabled={isEmpty} onClick={done}>Done</button>
        </div>
      </div>
      <p id="painter-keys" className="note keys">Arrow keys move the brush, Shift further; Space paints; [ and ] change its size; Ctrl+Z undoes.</p>
    </dialog>
  );
}
