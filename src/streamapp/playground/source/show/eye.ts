/** From where a thing is seen: the camera, what it is fitted to, and the hands that move it. */

import { Group, PerspectiveCamera, Vector3 } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";

import { about, type Extent, outlookOf, type Stand, standOf } from "./framing";

const ANGLE = 35; // of the camera's view, upright, in degrees
const TANGENT = Math.tan((ANGLE * Math.PI) / 360);
// What is framed stays so while all of what is shown is seen, and fills the view: else each preview would shake it.
const LEAST_FILLED = 0.8;
const MOST_FILLED = 1.1;
const USUAL_ELEVATION = 0.4; // in radians: that of which this is asked
const TURN_S = 45; // for once around
const KEY_TURN = Math.PI / 36;
const KEY_MOVE_PX = 24;
const KEY_ZOOM = 0.9;
const FARTHEST = 4; // times as far away as all of it is seen
const ARROWS: Record<string, [number, number]> = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

interface Hands {
  /** There is something new to be seen. */
  moved: () => void;
  /** Somebody turns it, or means to. */
  touched: () => void;
  /** The finger that touched it scrolls the page. */
  passed: () => void;
}

export class Eye {
  readonly camera = new PerspectiveCamera(ANGLE, 1, 0.01, 100);
  /** Holds what is shown, makes it of radius 1, and puts its middle into the middle: all that is below is of that size. */
  readonly stand = new Group();
  #canvas: HTMLCanvasElement;
  #controls: OrbitControls;
  #framed: Extent | undefined;
  #touched: () => void;
  #left = new AbortController();

  constructor(canvas: HTMLCanvasElement, isStill: boolean, { moved, touched, passed }: Hands) {
    this.#canvas = canvas;
    this.#touched = touched;
    canvas.addEventListener("pointercancel", passed, { signal: this.#left.signal });
    this.#listen();
    this.#controls = new OrbitControls(this.camera, canvas);
    canvas.style.touchAction = ""; // that of the style sheet: one scrolls past
    Object.assign(this.#controls, {
      enableDamping: !isStill, dampingFactor: 0.12, minDistance: 0.02, zoomToCursor: true, autoRotateSpeed: -60 / TURN_S,
    });
    this.#controls.addEventListener("change", moved);
    this.#controls.addEventListener("start", touched);
  }

  get framed(): Extent | undefined {
    return this.#framed;
  }

  /** Have it go around by itself, or not. */
  turn(isTurning: boolean): void {
    this.#controls.autoRotate = isTurning;
  }

  /** Go on moving; says whether it moved. */
  move(elapsedS: number): boolean {
    return this.#controls.update(elapsedS);
  }

  /** Show a thing where the one before was, as large as that was, unless it does not fit there. */
  frame(extent: Extent): void {
    if (!this.#framed) this.fit(extent, true);
    else if (!this.#isFitting(extent)) this.#keepSize(() => this.#take(extent));
  }

  /** See all of a thing, from where one looks, or from where one looked first. */
  fit(extent: Extent, isFromFront: boolean): void {
    this.#take(extent);
    const direction = isFromFront ? outlookOf(extent) : this.#direction;
    const { distance, height } = this.#standAt(direction);
    this.#controls.target.set(0, height, 0);
    this.camera.position.copy(direction.multiplyScalar(distance)).add(this.#controls.target);
    this.#controls.update();
  }

  /** Take the shape of the view. */
  resize(aspect: number): void {
    this.#keepSize(() => (this.camera.aspect = aspect));
  }

  /** Set what is too near to be drawn, and too far, for where it is now. */
  focus(): void {
    const distance = this.camera.position.length();
    this.camera.near = Math.max(distance - 1.6, this.camera.position.distanceTo(this.#controls.target) / 50);
    this.camera.far = distance + 4;
    this.camera.updateProjectionMatrix();
  }

  close(): void {
    this.#left.abort();
    this.#controls.dispose();
  }

  get #direction(): Vector3 {
    return this.camera.position.clone().sub(this.#controls.target).normalize();
  }

  #take(extent: Extent): void {
    this.#framed = extent;
    this.stand.scale.setScalar(1 / extent.radius);
    this.stand.position.copy(extent.middle).divideScalar(-extent.radius);
  }

  #isFitting(extent: Extent): boolean {
    const framed = this.#framed!;
    const needed = (of: Extent) => standOf(of, USUAL_ELEVATION, TANGENT, this.camera.aspect).distance;
    const share = needed(about(extent, framed.middle)) / needed(framed);
    return share > LEAST_FILLED && share < MOST_FILLED;
  }

  /** Change what the view is fitted to, and go so far away that it fills as much of it as before. */
  #keepSize(change: () => void): void {
    const before = this.#framed && this.#standAt(this.#direction);
    change();
    if (!before) return;
    const { distance, height } = this.#standAt(this.#direction);
    this.#controls.target.y += height - before.height;
    this.camera.position.y += height - before.height;
    this.#zoom(distance / before.distance);
  }

  /** Where the camera is to be for all to be seen. */
  #standAt(direction: Vector3): Stand {
    const { radius } = this.#framed!;
    const elevation = Math.asin(Math.min(1, Math.max(-1, direction.y)));
    const { distance, height } = standOf(this.#framed!, elevation, TANGENT, this.camera.aspect);
    this.#controls.maxDistance = (FARTHEST * distance) / radius;
    return { distance: distance / radius, height: height / radius };
  }

  /** Go farther away, or nearer. */
  #zoom(times: number): void {
    const { target } = this.#controls;
    this.camera.position.sub(target).multiplyScalar(times).add(target);
    this.#controls.update();
  }

  #listen(): void {
    const { signal } = this.#left;
    const canvas = this.#canvas;
    // A wheel over a view that nobody has touched scrolls the page; a pinch on a trackpad is one with Ctrl.
    const isUsed = () => document.activeElement === canvas || document.fullscreenElement?.contains(canvas);
    canvas.addEventListener("wheel", (event) => event.ctrlKey || isUsed() || event.stopImmediatePropagation(), { signal, capture: true });
    // Two fingers are for the view, one may scroll the page.
    canvas.addEventListener("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), { signal, passive: false });
    canvas.addEventListener("keydown", (event) => this.#press(event), { signal });
    canvas.addEventListener("dblclick", () => this.#framed && this.fit(this.#framed, false), { signal });
  }

  #press(event: KeyboardEvent): void {
    const { key, shiftKey, ctrlKey, metaKey, altKey } = event;
    if (ctrlKey || metaKey || altKey || !this.#framed) return;
    const [x, y] = ARROWS[key] ?? [0, 0];
    if ((x || y) && shiftKey) this.#controls.pan(KEY_MOVE_PX * x, KEY_MOVE_PX * y);
    else if (x || y) {
      this.#controls.rotateLeft(KEY_TURN * x);
      this.#controls.rotateUp(KEY_TURN * y);
    } else if (key === "+" || key === "=") this.#zoom(KEY_ZOOM); // on many keyboards + is = with Shift
    else if (key === "-") this.#zoom(1 / KEY_ZOOM);
    else if (key === "f" || key === "0") this.fit(this.#framed, key === "0");
    else return;
    event.preventDefault();
    this.#touched();
  }
}
