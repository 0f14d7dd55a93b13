/** Tell dense arrays of voxels from what only looks so: pictures, masks, tables, embeddings. */

/** A dense array of three dimensions, of numbers or of colours, which nobody has unpacked yet. */
export interface Grid {
  /** How many cells it has along x, y and z; z changes fastest. */
  shape: [number, number, number];
  /** How many numbers a cell has: 1, or 3 or 4 for a colour. */
  channels: number;
  /** Nested lists, a flat one, or base64. */
  data: unknown[] | string;
  /** What kind of numbers base64 holds, as numpy says it. */
  dtype?: unknown;
  /** Cells whose number is above are there. */
  threshold?: unknown;
  /** Their colours: an array like this one, or a list of one for each number. */
  colors?: unknown;
  /** Which axis points upwards. */
  up?: unknown;
}

const KEYS = /voxel|occupan|^(grid|volume|density)$/i;
const SURE = /voxel|occupan/i;
const MOST_CELLS = 2 ** 26;
const MOST_ROWS = 2 ** 20;
const SAMPLE = 4096;
const FEWEST = 5; // cells along a side of what has no name: pictures have three or four numbers there
const MOST_UNEVEN = 4; // how much longer one of its sides is than another
const PICTURE = 16;
const LEAST_EMPTY = 0.1; // to what is filled

/** Return the dense array that a value is; `name` is where it stands, `beside` what stands there, too. */
export function gridOf(value: any, name: string, beside: any): Grid | undefined {
  const { data = value, dtype } = isPacked(value) ? value : {};
  if (typeof data !== "string" && !Array.isArray(data)) return undefined;
  const shape = isPacked(value) ? (value.shape as number[]) : shapeOf(data as unknown[]);
  if (!shape || !isRoom(shape, name)) return undefined;
  const size = shape.reduce((product, side) => product * side, 1);
  if (typeof data === "string" ? !isBytes(data, size, name) : !isNumbers(data, shape, size, name)) return undefined;
  const [x, y, z, channels = 1] = shape as [number, number, number, number?];
  const { threshold, colors, up } = isPacked(value) ? { ...beside, ...value } : KEYS.test(name) ? beside : ({} as any);
  return { shape: [x, y, z], channels, data, dtype, threshold, colors, up };
}

function isPacked(value: any): boolean {
  const isShape = Array.isArray(value?.shape) && value.shape.length <= 4 && value.shape.every((side: unknown) => Number.isSafeInteger(side));
  return isShape && (typeof value.data === "string" || Array.isArray(value.data));
}

/** Return the sides of nested lists; undefined where they are not of equal lengths. */
function shapeOf(lists: unknown[]): number[] | undefined {
  const shape: number[] = [];
  for (let part: unknown = lists; Array.isArray(part) && shape.length < 5; part = part[0]) shape.push(part.length);
  if (shape.length !== 3 && shape.length !== 4) return undefined;
  if (shape[0]! * shape[1]! > MOST_ROWS) return undefined;
  const isOf = (list: unknown, length: number | undefined): list is unknown[] => Array.isArray(list) && list.length === length;
  return lists.every((plane) => isOf(plane, shape[1]) && plane.every((row) => isOf(row, shape[2]))) ? shape : undefined;
}

function isRoom(shape: number[], name: string): boolean {
  const sides = shape.slice(0, 3);
  const [least, most] = [Math.min(...sides), Math.max(...sides)];
  if (sides.length < 3 || least < 1 || sides.reduce((product, side) => product * side, 1) > MOST_CELLS) return false;
  const isNamed = KEYS.test(name);
  if (shape.length === 4) return isNamed && (shape[3] === 3 || shape[3] === 4);
  if (isNamed) return SURE.test(name) || !isPicture(sides);
  return least >= FEWEST && most <= MOST_UNEVEN * least;
}

/** Rows of pixels, or planes of colours. */
function isPicture([x, y, z]: number[]): boolean {
  return y! >= PICTURE && ((z! <= 4 && x! >= PICTURE) || (x! <= 4 && z! >= PICTURE));
}

/** Bytes, or bits, of what has no name; else numbers of any kind. */
function isBytes(data: string, size: number, name: string): boolean {
  if (!/^[\w+/-]+=*$/.test(data.slice(0, 64))) return false;
  const bytes = Math.floor((data.replace(/=+$/, "").length * 3) / 4);
  return KEYS.test(name) || bytes === size || bytes === Math.ceil(size / 8);
}

/** Look at some of the numbers: those of what has no name are to leave cells empty, and to fill others. */
function isNumbers(data: unknown[], shape: number[], size: number, name: string): boolean {
  const depth = Array.isArray(data[0]) ? shape.length : 1;
  if (depth === 1 && data.length !== size) return false;
  const stride = Math.max(1, Math.floor(size / SAMPLE)) | 1; // odd, so that it meets all rows
  let [zeros, others] = [0, 0];
  for (let n = 0; n < size; n += stride) {
    const number = depth === 1 ? data[n] : numberAt(data, shape, n);
    if (number === null) continue;
    if (typeof number !== "number" && typeof number !== "boolean") return false;
    if (Number(number) < 0 && !KEYS.test(name)) return false;
    if (Number(number) === 0) zeros++;
    else others++;
  }
  return KEYS.test(name) || (others > 0 && zeros > others * LEAST_EMPTY);
}

function numberAt(lists: unknown[], shape: number[], n: number): unknown {
  const at: number[] = [];
  for (const side of [...shape].reverse()) {
    at.unshift(n % side);
    n = Math.floor(n / side);
  }
  return at.reduce<any>((list, place) => list?.[place], lists);
}
