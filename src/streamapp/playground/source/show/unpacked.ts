/** Unpack a dense array: which of its cells are there, and in what colour. */

import { bytesOf } from "../runs/content";
import type { Grid } from "../runs/grid";

/** The cells of a dense array, x slowest; where the colour comes from a scale, its ends. */
export interface Cells {
  shape: [number, number, number];
  /** 1 where there is a cell. */
  filled: Uint8Array;
  /** Three bytes for each cell, sRGB. */
  colours: Uint8Array;
  scale?: Scale | undefined;
}

/** What the colours of numbers mean, and above which number there is something. */
export interface Scale {
  low: number;
  high: number;
  cut: number;
}

// Viridis, by Smith and van der Walt: equal steps look equal, also to those who see no red or no green. `scene.css` has it, too.
const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6dcd59", "#b4de2c", "#fde725"];
export const PLAIN: Colour = [122, 140, 240];
const HALF = 0.5;
type Colour = readonly [number, number, number];

/** Unpack it; `cut` takes the place of its own threshold. */
export async function unpacked(grid: Grid, cut?: number): Promise<Cells> {
  const { shape, channels } = grid;
  const size = shape[0] * shape[1] * shape[2];
  const numbers = await numbersOf(grid.data, size * channels, grid.dtype);
  if (channels > 1) return { shape, ...coloured(numbers, size, channels) };
  const { least, most, isWhole } = rangeOf(numbers);
  const threshold = cut ?? (typeof grid.threshold === "number" ? grid.threshold : thresholdOf(numbers, least, most, isWhole));
  const filled = new Uint8Array(size);
  for (let n = 0; n < size; n++) filled[n] = Number(numbers[n]! > threshold);
  const own = await ownColours(grid, numbers, size);
  if (own) return { shape, filled, colours: own };
  if (isWhole && most - Math.max(0, least) <= 1 && least >= 0) return { shape, filled, colours: everywhere(size, PLAIN) };
  const low = Math.min(0, least); // the scale stays as it is while one cuts
  return { shape, filled, colours: mapped(numbers, filled, low, most), scale: { low, high: most, cut: threshold } };
}

/** What is nothing, or, where that leaves hardly a cell empty, less than half. */
function thresholdOf(numbers: Float32Array, least: number, most: number, isWhole: boolean): number {
  if (isWhole) return 0;
  let above = 0;
  for (const number of numbers) if (number > 0) above++;
  return above > HALF * numbers.length ? (Math.max(0, least) + most) / 2 : 0;
}

function rangeOf(numbers: Float32Array) {
  let [least, most, isWhole] = [Infinity, -Infinity, true];
  for (const number of numbers) {
    if (Number.isNaN(number)) continue;
    if (number < least) least = number;
    if (number > most) most = number;
    isWhole &&= Number.isInteger(number);
  }
  return { least, most, isWhole };
}

/** Colours of three numbers leave black cells empty, those of four transparent ones. */
function coloured(numbers: Float32Array, size: number, channels: number): Pick<Cells, "filled" | "colours"> {
  const scale = scaleOf(numbers);
  const filled = new Uint8Array(size);
  const colours = new Uint8Array(3 * size);
  for (let n = 0; n < size; n++) {
    const [at, to] = [channels * n, 3 * n];
    for (let part = 0; part < 3; part++) colours[to + part] = Math.round(scale * (numbers[at + part] || 0));
    filled[n] = Number(channels === 4 ? numbers[at + 3]! > 0 : colours[to]! + colours[to + 1]! + colours[to + 2]! > 0);
  }
  return { filled, colours };
}

/** Colours go to 1, or to 255. */
function scaleOf(numbers: ArrayLike<number>): number {
  for (let n = 0; n < numbers.length; n++) if (numbers[n]! > 1) return 1;
  return 255;
}

async function ownColours({ colors, shape }: Grid, numbers: Float32Array, size: number): Promise<Uint8Array | undefined> {
  const sides = sidesOf(colors);
  if (sides.length === 4 && shape.every((side, n) => side === sides[n])) {
    const channels = sides[3]!;
    return coloured(await numbersOf(colors as unknown[], size * channels, undefined), size, channels).colours;
  }
  const palette = paletteOf(colors);
  if (!palette) return undefined;
  const colours = new Uint8Array(3 * size);
  for (let n = 0; n < size; n++) {
    const colour = palette.get(numbers[n]!) ?? PLAIN;
    for (let part = 0; part < 3; part++) colours[3 * n + part] = colour[part]!;
  }
  return colours;
}

function sidesOf(value: unknown): number[] {
  return Array.isArray(value) ? [value.length, ...sidesOf(value[0])] : [];
}

/** A list of colours, that of 0 first, or an object of them by their numbers; each three numbers, or "#rrggbb". */
function paletteOf(colors: unknown): Map<number, Colour> | undefined {
  if (typeof colors !== "object" || colors === null) return undefined;
  const entries = Object.entries(colors).map(([number, colour]) => [Number(number), partsOf(colour)] as const);
  const known = entries.filter((entry): entry is [number, number[]] => entry[1] !== undefined);
  const scale = scaleOf(known.flatMap(([, parts]) => parts.slice(0, 3)));
  return known.length ? new Map(known.map(([number, [r = 0, g = 0, b = 0]]) => [number, [scale * r, scale * g, scale * b]])) : undefined;
}

function partsOf(colour: unknown): number[] | undefined {
  if (typeof colour === "string" && /^#[\da-f]{6}$/i.test(colour)) return rgbOf(colour);
  return Array.isArray(colour) && colour.length >= 3 && colour.every((part) => typeof part === "number") ? colour : undefined;
}

function rgbOf(hex: string): number[] {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function everywhere(size: number, colour: Colour): Uint8Array {
  const colours = new Uint8Array(3 * size);
  for (let n = 0; n < colours.length; n++) colours[n] = colour[n % 3]!;
  return colours;
}

function mapped(numbers: Float32Array, filled: Uint8Array, low: number, high: number): Uint8Array {
  const stops = VIRIDIS.map(rgbOf);
  const table = Uint8Array.from({ length: 768 }, (_, n) => {
    const place = (Math.floor(n / 3) / 255) * (stops.length - 1);
    const before = Math.min(stops.length - 2, Math.floor(place));
    const [from, to] = [stops[before]![n % 3]!, stops[before + 1]![n % 3]!];
    return Math.round(from + (to - from) * (place - before));
  });
  const colours = new Uint8Array(3 * numbers.length);
  const scale = high > low ? 255 / (high - low) : 0;
  for (let n = 0; n < numbers.length; n++) {
    if (!filled[n]) continue;
    const at = 3 * Math.round(Math.min(255, Math.max(0, scale * (numbers[n]! - low))));
    for (let part = 0; part < 3; part++) colours[3 * n + part] = table[at + part]!;
  }
  return colours;
}

/** Write all numbers one after another; what is no number is no cell. */
async function numbersOf(data: unknown[] | string, size: number, dtype: unknown): Promise<Float32Array> {
  if (typeof data === "string") return read(await bytesOf(`data:;base64,${data.replaceAll("-", "+").replaceAll("_", "/")}`), size, dtype);
  const numbers = new Float32Array(size);
  let at = 0;
  const write = (list: unknown[]) => {
    for (const part of list) {
      if (Array.isArray(part)) write(part);
      else numbers[at++] = part === null ? NaN : Number(part);
    }
  };
  write(data);
  return numbers;
}

const KINDS: Record<string, Int8ArrayConstructor | Uint8ArrayConstructor | Int16ArrayConstructor | Uint16ArrayConstructor | Int32ArrayConstructor | Uint32ArrayConstructor | Float32ArrayConstructor | Float64ArrayConstructor> = {
  bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array,
  float32: Float32Array, float64: Float64Array,
};

/** Read bytes as numpy writes them; bits as `numpy.packbits` does. Where nothing is said, their number tells what they are. */
function read(bytes: ArrayBuffer, size: number, dtype: unknown): Float32Array {
  const said = typeof dtype === "string" ? dtype.replace(/^.*\.|^[<|=]/, "") : undefined;
  if (!said && bytes.byteLength === Math.ceil(size / 8)) return bits(new Uint8Array(bytes), size);
  const Kind = said ? KINDS[said] : { 1: Uint8Array, 4: Float32Array, 8: Float64Array }[bytes.byteLength / size];
  if (!Kind) throw new Error(said ? `it holds numbers of the type ${said}: send uint8 or float32` : "shape and data do not fit each other");
  if (bytes.byteLength !== size * Kind.BYTES_PER_ELEMENT) throw new Error("shape and data do not fit each other");
  return Float32Array.from(new Kind(bytes));
}

function bits(bytes: Uint8Array, size: number): Float32Array {
  return Float32Array.from({ length: size }, (_, n) => (bytes[n >> 3]! >> (7 - (n & 7))) & 1);
}
