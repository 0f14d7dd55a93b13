/** What is painted on a mask, act by act, so that each can be undone. */

import type { Pixels } from "./known";

export type Point = [number, number];

type Act =
  | { kind: "stroke"; erases: boolean; width: number; points: Point[] }
  | { kind: "picture"; picture: HTMLCanvasElement }
  | { kind: "clear" | "invert" };

const COLOR = "#7468ff"; // it is shown half transparent; only how opaque it is counts

/** A mask of an image's own size: what is painted is opaque, all else transparent. */
export class Strokes {
  #acts: Act[] = [];
  #count = 0; // of acts that are not undone
  #canvas: HTMLCanvasElement;
  #pen: CanvasRenderingContext2D;

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d")!;
    this.#pen.lineCap = this.#pen.lineJoin = "round";
  }

  get canUndo(): boolean {
    return this.#count > 0;
  }

  get canRedo(): boolean {
    return this.#count < this.#acts.length;
  }

  /** Whether nothing can be masked. */
  get isEmpty(): boolean {
    const last = this.#acts.slice(0, this.#count).findLast((act) => act.kind === "clear" || !(act.kind === "stroke" && act.erases));
    return last === undefined || last.kind === "clear";
  }

  begin(erases: boolean, width: number, point: Point): void {
    this.#do({ kind: "stroke", erases, width, points: [point] });
  }

  /** Go on with the newest stroke. */
  extend(point: Point): void {
    const act = this.#acts[this.#count - 1];
    if (act?.kind !== "stroke") return;
    this.#line(act.erases, act.width, [act.points.at(-1)!, point]);
    act.points.push(point);
  }

  clear(): void {
    this.#do({ kind: "clear" });
  }

  invert(): void {
    this.#do({ kind: "invert" });
  }

  /** Begin with a mask that there was: white and black, of any size. */
  load(mask: HTMLImageElement): void {
    const { width, height } = this.#canvas;
    const picture = Object.assign(document.createElement("canvas"), { width, height });
    const pen = picture.getContext("2d", { willReadFrequently: true })!;
    pen.drawImage(mask, 0, 0, width, height);
    const pixels = pen.getImageData(0, 0, width, height);
    for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at]!;
    pen.putImageData(pixels, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = COLOR;
    pen.fillRect(0, 0, width, height);
    this.#do({ kind: "picture", picture });
  }

  undo(): void {
    if (!this.canUndo) return;
    this.#count--;
    this.#pen.globalCompositeOperation = "source-over";
    this.#wipe();
    for (const act of this.#acts.slice(0, this.#count)) this.#draw(act);
  }

  redo(): void {
    if (this.canRedo) this.#draw(this.#acts[this.#count++]!);
  }

  /** Return it as a PNG: white where it is painted, on black. */
  async file(): Promise<File> {
    const { width, height } = this.#canvas;
    const mask = Object.assign(document.createElement("canvas"), { width, height });
    const pen = mask.getContext("2d")!;
    pen.drawImage(this.#canvas, 0, 0);
    for (const [operation, color] of [["source-in", "white"], ["destination-over", "black"]] as const) {
      pen.globalCompositeOperation = operation;
      pen.fillStyle = color;
      pen.fillRect(0, 0, width, height);
    }
    const blob = await new Promise<Blob | null>((resolve) => mask.toBlob(resolve));
    return new File([blob!], "mask.png", { type: "image/png" });
  }

  #do(act: Act): void {
    this.#acts = [...this.#acts.slice(0, this.#count), act];
    this.#count++;
    this.#draw(act);
  }

  #draw(act: Act): void {
    if (act.kind === "stroke") return this.#line(act.erases, act.width, act.points);
    const { width, height } = this.#canvas;
    this.#pen.globalCompositeOperation = act.kind === "invert" ? "source-out" : "source-over";
    this.#pen.fillStyle = COLOR;
    if (act.kind === "invert") this.#pen.fillRect(0, 0, width, height);
    else if (act.kind === "picture") this.#pen.drawImage(act.picture, 0, 0);
    else this.#wipe();
  }

  #wipe(): void {
    this.#pen.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
  }

  #line(erases: boolean, width: number, points: Point[]): void {
    const pen = this.#pen;
    pen.globalCompositeOperation = erases ? "destination-out" : "source-over";
    pen.strokeStyle = COLOR;
    pen.lineWidth = width;
    pen.beginPath();
    const [x, y] = points[0]!;
    pen.moveTo(x - 0.01, y); // a line of no length is not drawn, and a single point is a dot
    for (const point of points) pen.lineTo(...point);
    pen.stroke();
  }
}

/** Return the width of a brush in pixels of the image. */
export function brushWidth([width, height]: Pixels, percent: number): number {
  return Math.max(1, (Math.max(width, height) * percent) / 100);
}
