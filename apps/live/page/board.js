/** Let somebody draw on a canvas, by mouse, pen, fingers or keys; an event "change" says that it shows something else. */

const GROUND = "#ffffff";
const KEY_STEP = 16;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Board extends EventTarget {
  colour = GROUND;
  size = 1;

  #canvas;
  #context;
  #cursor;
  #at; // where the brush is that keys move
  #acts = []; // strokes and fills, in their order, so that each can be undone
  #strokes = new Map(); // those that are being drawn, by their pointer

  /** `cursor` shows where the brush is that keys move. */
  constructor(canvas, cursor) {
    super();
    this.#canvas = canvas;
    this.#context = Object.assign(canvas.getContext("2d"), { lineCap: "round", lineJoin: "round" });
    this.#cursor = cursor;
    this.#at = [canvas.width / 2, canvas.height / 2];
    this.#draw();
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, ({ pointerId }) => this.#strokes.delete(pointerId));
    canvas.addEventListener("keydown", (event) => this.#type(event));
    canvas.addEventListener("blur", () => this.#lift());
  }

  get canUndo() {
    return this.#acts.length > 0;
  }

  /** Return what it shows, as a JPEG: a tenth of the bytes of a PNG where there is much on it. */
  picture() {
    return new Promise((resolve) => this.#canvas.toBlob(resolve, "image/jpeg", 0.9));
  }

  undo() {
    this.#acts.pop();
    this.#strokes.clear();
    this.#lift();
    this.#draw();
    this.#tell();
  }

  fill(colour = GROUND) {
    this.#acts.push({ fill: colour });
    this.#draw();
    this.#tell();
  }

  #press(event) {
    if (event.button !== 0) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#strokes.set(event.pointerId, this.#begin(this.#placeOf(event)));
  }

  #move(event) {
    const stroke = this.#strokes.get(event.pointerId);
    if (!stroke) return;
    const between = event.getCoalescedEvents?.() ?? []; // all places that it passed since the last picture of the screen
    for (const passed of between.length ? between : [event]) this.#extend(stroke, this.#placeOf(passed));
  }

  #type(event) {
    const move = MOVES[event.key];
    if (event.key === " ") {
      if (this.#strokes.has("keys")) this.#lift();
      else this.#strokes.set("keys", this.#begin(this.#at));
    } else if (move) {
      const within = (place) => Math.min(Math.max(place, 0), this.#canvas.width);
      this.#at = this.#at.map((place, axis) => within(place + KEY_STEP * move[axis]));
      const stroke = this.#strokes.get("keys");
      if (stroke) this.#extend(stroke, this.#at);
    } else return;
    event.preventDefault(); // the page does not scroll
    this.#showCursor();
  }

  #begin(place) {
    const stroke = { colour: this.colour, size: this.size, places: [place] };
    this.#acts.push(stroke);
    this.#dot(stroke, place);
    this.#tell();
    return stroke;
  }

  #extend(stroke, place) {
    this.#line(stroke, stroke.places.at(-1), place);
    stroke.places.push(place);
    this.#tell();
  }

  #lift() {
    this.#strokes.delete("keys");
    this.#showCursor();
  }

  /** Draw all that still counts. */
  #draw() {
    const ground = this.#acts.findLastIndex((act) => act.fill);
    this.#context.fillStyle = this.#acts[ground]?.fill ?? GROUND;
    this.#context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    for (const stroke of this.#acts.slice(ground + 1)) {
      this.#dot(stroke, stroke.places[0]);
      for (let n = 1; n < stroke.places.length; n++) this.#line(stroke, stroke.places[n - 1], stroke.places[n]);
    }
  }

  /** A line to where it begins is none. */
  #dot({ colour, size }, [x, y]) {
    this.#context.fillStyle = colour;
    this.#context.beginPath();
    this.#context.arc(x, y, size / 2, 0, 2 * Math.PI);
    this.#context.fill();
  }

  #line({ colour, size }, from, to) {
    Object.assign(this.#context, { strokeStyle: colour, lineWidth: size });
    this.#context.beginPath();
    this.#context.moveTo(...from);
    this.#context.lineTo(...to);
    this.#context.stroke();
  }

  #placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    return [((clientX - left) / width) * this.#canvas.width, ((clientY - top) / height) * this.#canvas.height];
  }

  #showCursor() {
    const [left, top] = this.#at.map((place) => `${(100 * place) / this.#canvas.width}%`);
    Object.assign(this.#cursor.style, { left, top });
    this.#cursor.classList.toggle("down", this.#strokes.has("keys"));
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
