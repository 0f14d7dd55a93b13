/** The view of one thing: what is in it, and when it is drawn. */

import { type CubeTexture, Group, MeshStandardMaterial, NeutralToneMapping, type Object3D, Scene, Vector3, WebGLRenderer } from "three";

import type { Content } from "../runs/content";
import { cubesOf } from "./cubes";
import { Eye } from "./eye";
import { about, type Extent, extentOf } from "./framing";
import { dispose, materialsOf, wire } from "./objects";
import { skyTexture } from "./sky";
import { type Solid, solidOf, type Upright } from "./solid";
import { Studio } from "./studio";
import type { Scale } from "./unpacked";

/** What the view says. */
export interface Told {
  /** What file it is; that stands below, too, and is told to those who hear the page. */
  name?: string | undefined;
  words: string;
  /** That what came is not seen, and why. */
  trouble?: { what: string; why: string } | undefined;
  /** What colours mean. */
  scale?: Scale | undefined;
}

const SLOW_MS = 45; // between two frames: fewer pixels are drawn while it moves
const SLOW_FRAMES = 6;
const LEAST_SHARP = 0.5;
const SHADOW_MS = 400; // between two shadows
const MOST_PIXELS = 2; // along a side of one of the page's
const GLOSSY = 0.4; // what is rougher, and no metal, reflects hardly anything
const AWAY = { what: "The graphics card is needed elsewhere", why: "The view comes back with it." };

export class View {
  #tell: (told: Told) => void;
  #told: Told | undefined;
  #tellTurning: (isTurning: boolean) => void;
  #canvas: HTMLCanvasElement;
  #renderer: WebGLRenderer;
  #scene = new Scene();
  #studio = new Studio(this.#scene);
  #eye: Eye;
  #sky: CubeTexture | undefined;
  #solid: Solid | undefined;
  #extent: Extent | undefined;
  #outdated: Object3D[] = [];
  #turns = 0;
  #isWired = false;
  #isTurning = false;
  /** Whether it turned until the last touch. */
  #isHeld = false;
  #isSeen = true;
  #wanted: Content | undefined;
  #last: Content | undefined;
  #cut: number | undefined;
  #isReading = false;
  #isClosed = false;
  #frame = 0;
  #drawnAt = 0;
  #slowFrames = 0;
  #sharpness = 1;
  #isShadowOld = false;
  #castAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #left = new AbortController();

  /** Raises an error where there is no WebGL. */
  constructor(canvas: HTMLCanvasElement, tell: (told: Told) => void, tellTurning: (isTurning: boolean) => void) {
    this.#tell = tell;
    this.#tellTurning = tellTurning;
    this.#canvas = canvas;
    const context = canvas.getContext("webgl2", { antialias: true, alpha: true, preserveDrawingBuffer: true });
    if (!context) throw new Error("there is no WebGL");
    this.#renderer = new WebGLRenderer({ canvas, context });
    this.#renderer.debug.checkShaderErrors = false; // which waits for the GPU
    this.#renderer.toneMapping = NeutralToneMapping;
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    this.#eye = new Eye(canvas, still.matches, {
      moved: () => this.#wake(),
      touched: () => this.#stop(),
      passed: () => this.#isHeld && this.turn(true),
    });
    this.#scene.add(this.#eye.stand);
    this.#resize();
    this.#light();
    this.#listen(still);
    this.turn(!still.matches);
  }

  /** Show a content as soon as the one before has been read; of those that come meanwhile only the newest. */
  async want(content: Content): Promise<void> {
    this.#wanted = content;
    if (this.#isReading || document.hidden) return;
    this.#isReading = true;
    while (this.#wanted && !this.#isClosed && !document.hidden) {
      const next: Content = this.#wanted;
      this.#wanted = undefined;
      await this.#read(next);
    }
    this.#isReading = false;
  }

  /** Show of a dense array what is above a number. */
  cut(number: number): void {
    this.#cut = number;
    if (this.#last) this.want(this.#last);
  }

  /** Have it turn by itself, or not. */
  turn(isTurning: boolean): void {
    this.#isTurning = isTurning;
    this.#eye.turn(isTurning);
    this.#tellTurning(isTurning);
    this.#wake();
  }

  #stop(): void {
    this.#isHeld = this.#isTurning;
    if (this.#isTurning) this.turn(false);
  }

  /** See all of it, from where one looks. */
  fit(): void {
    if (!this.#extent) return;
    this.#eye.fit(this.#extent, false);
    this.#isShadowOld = true;
    this.#wake();
  }

  /** Put another of its sides down. */
  upright(): void {
    this.#turns++;
    if (!this.#solid) return;
    this.#place(this.#solid);
    this.fit();
  }

  /** Draw edges, or faces. */
  wire(isWired: boolean): void {
    this.#isWired = isWired;
    if (this.#solid) wire(this.#solid.object, isWired);
    this.#wake();
  }

  /** Return what is seen as a PNG, before the page's ground. */
  async picture(): Promise<Blob> {
    this.#draw();
    const { width, height } = this.#canvas;
    const sheet = Object.assign(document.createElement("canvas"), { width, height });
    const context = sheet.getContext("2d")!;
    context.fillStyle = getComputedStyle(this.#canvas).backgroundColor;
    context.fillRect(0, 0, width, height);
    context.drawImage(this.#canvas, 0, 0);
    return new Promise((resolve, reject) => sheet.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png"));
  }

  close(): void {
    this.#isClosed = true;
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#left.abort();
    this.#eye.close();
    if (this.#solid) dispose(this.#solid.object);
    this.#outdated.forEach(dispose);
    this.#studio.close();
    this.#sky?.dispose();
    this.#renderer.dispose();
    this.#renderer.forceContextLoss(); // browsers have sixteen of them, and would take the oldest from another view
  }

  // What is shown

  async #read(content: Content): Promise<void> {
    try {
      const solid = await this.#solidOf(content);
      if (this.#isClosed) return dispose(solid.object);
      this.#last = content;
      this.#show(solid);
    } catch (error) {
      if (this.#isClosed) return;
      const name = "media" in content ? (content.media.file_name ?? "This file") : "This array";
      this.#clear({ what: `${name} cannot be shown`, why: sentence((error as Error).message) });
    }
  }

  async #solidOf(content: Content): Promise<Solid> {
    if (content.kind === "voxels") return cubesOf(content.voxels, this.#cut);
    if ("media" in content) return solidOf(content.media);
    throw new Error("it is a table");
  }

  /** Put a thing in the place of the one before, which is let go of when this one is drawn: they share a program. */
  #show(solid: Solid): void {
    if (this.#solid) this.#outdated.push(this.#solid.object);
    this.#solid = solid;
    this.#furnish(solid.object);
    this.#place(solid);
    this.#draw();
    this.#say({ name: solid.name, words: solid.words, scale: solid.scale });
  }

  #place(solid: Solid): void {
    const turned = new Group();
    turned.add(solid.object);
    turned.quaternion.setFromAxisAngle(...turnOf(solid.upright, this.#turns));
    this.#extent = extentOf(turned);
    this.#eye.stand.clear();
    this.#eye.stand.add(turned);
    this.#eye.frame(this.#extent);
    this.#isShadowOld = true;
  }

  /** Show nothing, and say why. */
  #clear(trouble: Told["trouble"]): void {
    if (this.#solid) this.#outdated.push(this.#solid.object);
    this.#solid = this.#extent = undefined;
    this.#eye.stand.clear();
    this.#studio.clear();
    this.#draw();
    this.#say({ words: "", trouble });
  }

  #say(told: Told): void {
    this.#told = told;
    this.#tell(told);
  }

  #furnish(object: Object3D): void {
    for (const material of materialsOf(object)) {
      if (!(material instanceof MeshStandardMaterial)) continue;
      const isGlossy = material.metalness > 0 || material.roughness < GLOSSY || "transmission" in material;
      if (isGlossy) Object.assign(material, { envMap: (this.#sky ??= skyTexture()), envMapRotation: this.#studio.turned });
      else material.toneMapped = false; // nothing on it is brighter than white, and its colours stay as they are
    }
    wire(object, this.#isWired);
  }

  // What happens around it

  #listen(still: MediaQueryList): void {
    const { signal } = this.#left;
    const canvas = this.#canvas;
    canvas.addEventListener("webglcontextlost", () => this.#tell({ words: "", trouble: AWAY }), { signal });
    // A phone takes the GPU from pages that it hides.
    canvas.addEventListener("webglcontextrestored", () => this.#restore(), { signal });
    document.addEventListener("visibilitychange", () => this.#resume(), { signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#light(), { signal });
    still.addEventListener("change", ({ matches }) => matches && this.turn(false), { signal });
    const resized = new ResizeObserver(() => this.#resize());
    resized.observe(canvas);
    const seen = new IntersectionObserver((entries) => this.#see(entries.at(-1)!.isIntersecting));
    seen.observe(canvas);
    const themed = new MutationObserver(() => this.#light());
    themed.observe(document.documentElement, { attributes: true });
    signal.addEventListener("abort", () => [resized, seen, themed].forEach((observer) => observer.disconnect()));
  }

  #restore(): void {
    this.#isShadowOld = true;
    this.#draw();
    if (this.#told) this.#tell(this.#told);
  }

  #see(isSeen: boolean): void {
    this.#isSeen = isSeen;
    this.#resume();
  }

  /** Go on where it was left, when somebody looks again. */
  #resume(): void {
    this.#drawnAt = 0;
    this.#wake();
    if (this.#wanted && !this.#isReading) this.want(this.#wanted);
  }

  #light(): void {
    const [r = 0, g = 0, b = 0] = getComputedStyle(this.#canvas).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [];
    this.#studio.light(r + g + b < 384);
    this.#wake();
  }

  #resize(): void {
    const { clientWidth, clientHeight } = this.#canvas;
    if (!clientWidth || !clientHeight) return;
    this.#sharpen(1);
    this.#eye.resize(clientWidth / clientHeight);
    this.#draw();
  }

  // When it is drawn

  /** Draw soon, and go on for as long as something moves and somebody sees it. */
  #wake(): void {
    if (this.#frame || this.#isClosed || !this.#isSeen || document.hidden) return;
    this.#frame = requestAnimationFrame((now) => this.#step(now));
  }

  #step(now: number): void {
    this.#frame = 0;
    const elapsed = this.#drawnAt ? now - this.#drawnAt : 0;
    const isMoving = this.#eye.move(Math.min(elapsed, 100) / 1000) || this.#isTurning;
    this.#drawnAt = isMoving ? now : 0;
    if (isMoving) this.#pace(elapsed);
    else if (this.#sharpness < 1) this.#sharpen(1);
    this.#draw();
    if (isMoving) this.#wake();
  }

  /** Draw fewer pixels where many take too long. */
  #pace(elapsed: number): void {
    this.#slowFrames = elapsed > SLOW_MS ? this.#slowFrames + 1 : 0;
    if (this.#slowFrames < SLOW_FRAMES || this.#sharpness <= LEAST_SHARP) return;
    this.#slowFrames = 0;
    this.#sharpen(Math.max(LEAST_SHARP, 0.7 * this.#sharpness));
  }

  /** Draw as many pixels as the screen has, or a share of them. */
  #sharpen(sharpness: number): void {
    this.#sharpness = sharpness;
    this.#renderer.setPixelRatio(sharpness * Math.min(MOST_PIXELS, devicePixelRatio));
    this.#renderer.setSize(this.#canvas.clientWidth, this.#canvas.clientHeight, false);
  }

  #draw(): void {
    if (this.#isShadowOld && this.#extent) this.#cast(this.#extent, this.#eye.framed!);
    this.#studio.follow(this.#eye.camera);
    this.#eye.focus();
    this.#renderer.render(this.#scene, this.#eye.camera);
    this.#outdated.forEach(dispose);
    this.#outdated = [];
  }

  /** Cast the shadow of what is shown, if the last one was not just now: of a quick row of previews some have that of another. */
  #cast(extent: Extent, framed: Extent): void {
    clearTimeout(this.#timer);
    const early = this.#castAt + SHADOW_MS - performance.now();
    if (early > 0) return void (this.#timer = setTimeout(() => this.#wake(), early));
    this.#castAt = performance.now();
    this.#isShadowOld = false;
    const low = about(extent, framed.middle).low / framed.radius;
    this.#studio.cast(this.#renderer, this.#scene, low, Math.hypot(extent.half.x, extent.half.z) / framed.radius);
  }
}

function sentence(words: string): string {
  return `${words.slice(0, 1).toUpperCase()}${words.slice(1)}.`;
}

/** Return what turns a thing so that its upright axis points upwards; each turn takes another axis for that. */
function turnOf(upright: Upright, turns: number): [Vector3, number] {
  const [x, z] = [new Vector3(1, 0, 0), new Vector3(0, 0, 1)];
  const all: [Vector3, number][] = [[x, 0], [x, -Math.PI / 2], [x, Math.PI], [x, Math.PI / 2], [z, Math.PI / 2], [z, -Math.PI / 2]];
  return all[(turns + (upright === "z" ? 1 : 0)) % all.length]!;
}
