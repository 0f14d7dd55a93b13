/** Show voxels and meshes in three dimensions; loaded when the first one comes. */

import "./scene.css";

import { useEffect, useId, useRef, useState } from "react";

import { IconButton } from "../parts/icon";
import type { Content } from "../runs/content";
import { save } from "./save";
import type { Scale } from "./unpacked";
import { type Told, View } from "./view";

const NO_3D = { what: "This browser draws nothing in 3D here", why: "WebGL is off, or the graphics card has no room left." };
const HELP = "Drag, or press arrow keys, to turn it; with Shift to move it. Plus and minus zoom, F shows all of it, 0 as at first.";

/** A view that can be turned, moved and zoomed, also by keyboard; the view stays while its object is replaced. */
export default function SceneView({ content }: { content: Content }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const view = useRef<View>(null);
  const help = useId();
  const [{ name, words, trouble, scale }, tell] = useState<Told>({ words: "Loading" });
  const [isTurning, setTurning] = useState(false);
  const [isWired, setWired] = useState(false);
  useEffect(() => {
    try {
      view.current = new View(canvas.current!, tell, setTurning);
    } catch {
      tell({ words: "", trouble: NO_3D });
    }
    return () => view.current?.close();
  }, []);
  useEffect(() => void view.current?.want(content), [content]);
  const wire = () => {
    view.current?.wire(!isWired);
    setWired(!isWired);
  };
  const isFile = "media" in content;
  return (
    <div className="scene">
      <div className="scene-frame" ref={frame}>
        <canvas ref={canvas} role="img" aria-label="3D view" aria-describedby={help} tabIndex={trouble ? -1 : 0} />
        {trouble && (
          <p className="scene-trouble">
            <b>{trouble.what}</b>
            <span className="note">{trouble.why}{isFile && " You can still download it below."}</span>
          </p>
        )}
        {scale && !trouble && <Legend key={`${scale.low} ${scale.high}`} scale={scale} cut={(number) => view.current?.cut(number)} />}
        {!trouble && (
          <div className="scene-tools" role="group" aria-label="What to do with the view">
            <IconButton sign={isTurning ? "pause" : "play"} name="Turn" isPressed={isTurning} onClick={() => view.current?.turn(!isTurning)} />
            <IconButton sign="fit" name="Fit" onClick={() => view.current?.fit()} />
            <IconButton sign="upright" name="Turn upright" onClick={() => view.current?.upright()} />
            <IconButton sign="solid" name="Wireframe" isPressed={isWired} onClick={wire} />
            <IconButton sign="camera" name="Picture" onClick={async () => save(await view.current!.picture(), `${content.slot || "view"}.png`)} />
            {document.fullscreenEnabled && <IconButton sign="zoom" name="Full screen" onClick={() => fill(frame.current!)} />}
          </div>
        )}
      </div>
      <p className="note scene-words"><span aria-live="polite">{name && <span className="unseen">{name} · </span>}{words}</span>
        <span className="scene-hint" aria-hidden="true">Drag to turn. Click, then scroll to zoom.</span>
        <span className="unseen" id={help}>{HELP}</span>
      </p>
    </div>
  );
}

/** What the colours of numbers mean; below the number that is chosen nothing is drawn. */
function Legend({ scale: { low, high, cut }, cut: change }: { scale: Scale; cut: (number: number) => void }) {
  const most = high - 1e-6 * Math.abs(high); // or nothing would be left
  return (
    <label className="scene-legend">
      <span className="unseen">Hide smaller values</span>
      <input
        type="range" title="Hide smaller values" min={Math.min(0, low)} max={high} step="any" defaultValue={cut}
        onChange={({ target }) => change(Math.min(target.valueAsNumber, most))}
      />
      <span className="line"><span>{brief(Math.min(0, low))}</span><span>{brief(high)}</span></span>
    </label>
  );
}

function brief(number: number): string {
  return String(Number(number.toPrecision(3)));
}

function fill(frame: HTMLElement): void {
  if (document.fullscreenElement) document.exitFullscreen();
  else frame.requestFullscreen().catch(() => {}); // where a frame around the page does not let it
}
