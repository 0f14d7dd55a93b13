/** Make a mesh of voxels: of each cube the sides that are seen, darker in corners, as light has it. */

import { BufferAttribute, BufferGeometry, Mesh, MeshStandardMaterial } from "three";

import type { Voxels } from "../runs/content";
import type { Grid } from "../runs/grid";
import type { Solid } from "./solid";
import { type Cells, PLAIN, unpacked } from "./unpacked";

const MOST_SIDES = 600_000; // 60 MB of the GPU's memory
const MOST_LATTICE = 2 ** 24;

/** Make cubes of what came; `cut` takes the place of a dense array's own threshold. */
export async function cubesOf(voxels: Voxels | Grid, cut?: number): Promise<Solid> {
  const upright = voxels.up === "y" || voxels.up === "z" ? voxels.up : "positions" in voxels ? "y" : "z";
  if ("positions" in voxels) return { object: meshOf(sparse(voxels)), words: counted(voxels.positions.length), upright };
  const cells = await unpacked(voxels, cut);
  let count = 0;
  for (const one of cells.filled) count += one;
  const { sides, step } = ofGrid(cells);
  const words = step > 1 ? `${counted(count)}, ${step} to a cube's side` : counted(count);
  return { object: meshOf(sides), words, upright, scale: cells.scale };
}

function counted(count: number): string {
  return `${count.toLocaleString("en")} ${count === 1 ? "voxel" : "voxels"}`;
}

/** Sides of cubes, four corners each. */
interface Sides {
  positions: Float32Array;
  normals: Int8Array;
  colours: Uint8Array;
  /** Where on its side a corner is, and how light it is there. */
  corners: Uint8Array;
  count: number;
}

function room(count: number): Sides {
  return {
    positions: new Float32Array(12 * count), normals: new Int8Array(16 * count), colours: new Uint8Array(16 * count), corners: new Uint8Array(16 * count), count: 0,
  };
}

type Axes = readonly [axis: number, sign: number, across: number, along: number];
// The six sides: which axis they face, and the two that they lie along, counterclockwise seen from outside.
const FACINGS: readonly Axes[] = [[0, 1, 1, 2], [0, -1, 2, 1], [1, 1, 2, 0], [1, -1, 0, 2], [2, 1, 0, 1], [2, -1, 1, 0]];
const CORNERS = [[-1, -1], [1, -1], [1, 1], [-1, 1]] as const;
const SHADES = [115, 165, 210, 255]; // of a corner with three, two, one and no cubes about it

/** Add a side of a cube of a size; `shades` are those of its corners. */
function add(sides: Sides, [axis, sign, across, along]: Axes, middle: readonly number[], size: number, colour: ArrayLike<number>, at: number, shades: readonly number[]): void {
  const { positions, normals, colours, corners } = sides;
  // The two triangles meet along the diagonal whose ends are alike: else the shade would have a crease.
  const turn = shades[0]! + shades[2]! < shades[1]! + shades[3]! ? 1 : 0;
  for (let n = 0; n < 4; n++) {
    const [u, v] = CORNERS[(n + turn) % 4]!;
    const corner = 4 * sides.count + n;
    const place = 3 * corner;
    positions[place + axis] = middle[axis]! + (sign * size) / 2;
    positions[place + across] = middle[across]! + (u * size) / 2;
    positions[place + along] = middle[along]! + (v * size) / 2;
    normals[4 * corner + axis] = 127 * sign;
    for (let part = 0; part < 3; part++) colours[4 * corner + part] = colour[at + part]!;
    corners[4 * corner] = u > 0 ? 255 : 0;
    corners[4 * corner + 1] = v > 0 ? 255 : 0;
    corners[4 * corner + 2] = shades[(n + turn) % 4]!;
  }
  sides.count++;
}

/** Return the sides of a dense array; where they are too many, several cells are one cube. */
function ofGrid(cells: Cells): { sides: Sides; step: number } {
  let step = 1;
  let padded = withRim(cells);
  for (; padded.sides > MOST_SIDES; step *= 2) padded = withRim((cells = coarser(cells)));
  const { filled, strides } = padded;
  const sides = room(padded.sides);
  const [middle, shades] = [[0, 0, 0], [0, 0, 0, 0]]; // the same for all sides: a million lists take longer than the rest
  eachFilled(cells, strides, (place, n, i, j, k) => {
    middle[0] = step * (i + 0.5) - 0.5;
    middle[1] = step * (j + 0.5) - 0.5;
    middle[2] = step * (k + 0.5) - 0.5;
    for (const facing of FACINGS) {
      const above = place + facing[1] * strides[facing[0]]!;
      if (filled[above]) continue;
      for (let corner = 0; corner < 4; corner++) {
        const one = CORNERS[corner]![0] * strides[facing[2]]!;
        const other = CORNERS[corner]![1] * strides[facing[3]]!;
        const beside = 2 - filled[above + one]! - filled[above + other]!;
        shades[corner] = SHADES[beside && beside + 1 - filled[above + one + other]!]!;
      }
      add(sides, facing, middle, step, cells.colours, 3 * n, shades);
    }
  });
  return { sides, step };
}

/** Put empty cells around the array, so that each has neighbours; count the sides that are seen. */
function withRim(cells: Cells): { filled: Uint8Array; strides: number[]; sides: number } {
  const [x, y, z] = cells.shape;
  const strides = [(y + 2) * (z + 2), z + 2, 1];
  const filled = new Uint8Array((x + 2) * (y + 2) * (z + 2));
  eachFilled(cells, strides, (place) => void (filled[place] = 1));
  let sides = 0;
  eachFilled(cells, strides, (place) => {
    for (const stride of strides) sides += 2 - filled[place + stride]! - filled[place - stride]!;
  });
  return { filled, strides, sides };
}

type Visit = (place: number, n: number, i: number, j: number, k: number) => void;

/** Call a function with each cell's place in the array with a rim, that in the array without, and where that is. */
function eachFilled({ shape: [x, y, z], filled }: Cells, strides: number[], visit: Visit): void {
  let n = 0;
  for (let i = 0; i < x; i++) {
    for (let j = 0; j < y; j++) {
      const row = (i + 1) * strides[0]! + (j + 1) * strides[1]! + 1;
      for (let k = 0; k < z; k++, n++) if (filled[n]) visit(row + k, n, i, j, k);
    }
  }
}

/** Return an array of half the sides: a cell is there where one of eight is. */
function coarser({ shape, filled, colours }: Cells): Cells {
  const [x, y, z] = shape.map((side) => Math.ceil(side / 2)) as [number, number, number];
  const [, oldY, oldZ] = shape;
  const half = { shape: [x, y, z] as [number, number, number], filled: new Uint8Array(x * y * z), colours: new Uint8Array(3 * x * y * z) };
  for (let n = 0; n < filled.length; n++) {
    if (!filled[n]) continue;
    const to = ((Math.floor(n / (oldY * oldZ)) >> 1) * y + ((Math.floor(n / oldZ) % oldY) >> 1)) * z + ((n % oldZ) >> 1);
    half.filled[to] = 1;
    for (let part = 0; part < 3; part++) half.colours[3 * to + part] = colours[3 * n + part]!;
  }
  return half;
}

/** Return the sides of cubes that are told one by one: those of one size in rows are like a dense array's. */
function sparse(voxels: Voxels): Sides {
  const size = voxels.sizes?.[0] ?? 1;
  const isEven = !voxels.sizes || voxels.sizes.every((each) => each === size);
  return (isEven && inRows(voxels, size)) || apart(voxels);
}

function inRows({ positions, colors }: Voxels, size: number): Sides | undefined {
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  for (const place of positions) {
    for (let axis = 0; axis < 3; axis++) {
      low[axis] = Math.min(low[axis]!, place[axis]!);
      high[axis] = Math.max(high[axis]!, place[axis]!);
    }
  }
  const shape = low.map((least, axis) => Math.round((high[axis]! - least) / size) + 1) as [number, number, number];
  const room = shape[0] * shape[1] * shape[2];
  if (!(room <= MOST_LATTICE)) return undefined;
  const cells = { shape, filled: new Uint8Array(room), colours: new Uint8Array(3 * room) };
  for (const [n, place] of positions.entries()) {
    const at = place.map((number, axis) => (number - low[axis]!) / size);
    if (at.some((number) => Math.abs(number - Math.round(number)) > 0.01)) return undefined;
    const to = (Math.round(at[0]!) * shape[1] + Math.round(at[1]!)) * shape[2] + Math.round(at[2]!);
    cells.filled[to] = 1;
    cells.colours.set(colourOf(colors, n), 3 * to);
  }
  const { sides } = ofGrid(cells);
  for (let n = 0; n < 12 * sides.count; n++) sides.positions[n] = sides.positions[n]! * size + low[n % 3]!;
  return sides;
}

/** Sides of cubes wherever they are; those between two of one size are left out. */
function apart({ positions, colors, sizes }: Voxels): Sides {
  const keyOf = (place: readonly number[], size: number) => `${place.map((number) => Math.round(8 * number))},${size}`;
  const all = new Set(positions.map((place, n) => keyOf(place, sizes?.[n] ?? 1)));
  const sides = room(6 * positions.length);
  for (const [n, place] of positions.entries()) {
    const size = sizes?.[n] ?? 1;
    for (const facing of FACINGS) {
      const beyond = place.map((number, axis) => (axis === facing[0] ? number + facing[1] * size : number));
      if (!all.has(keyOf(beyond, size))) add(sides, facing, place, size, colourOf(colors, n), 0, [255, 255, 255, 255]);
    }
  }
  return sides;
}

function colourOf(colors: Voxels["colors"], n: number): ArrayLike<number> {
  const [r = PLAIN[0], g = PLAIN[1], b = PLAIN[2]] = colors?.[n] ?? [];
  return [r, g, b];
}

function meshOf({ positions, normals, colours, corners, count }: Sides): Mesh {
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(positions.subarray(0, 12 * count), 3));
  geometry.setAttribute("normal", new BufferAttribute(normals.subarray(0, 16 * count), 4, true));
  geometry.setAttribute("color", new BufferAttribute(colours.subarray(0, 16 * count), 4, true));
  geometry.setAttribute("corner", new BufferAttribute(corners.subarray(0, 16 * count), 4, true));
  const index = new Uint32Array(6 * count);
  const corner = [0, 1, 2, 0, 2, 3];
  for (let n = 0; n < index.length; n++) index[n] = 4 * Math.floor(n / 6) + corner[n % 6]!;
  geometry.setIndex(new BufferAttribute(index, 1));
  return new Mesh(geometry, material());
}

/** Colours as they came, lines between cubes as long as there is room for them, and dark corners. */
function material(): MeshStandardMaterial {
  const own = new MeshStandardMaterial({ vertexColors: true, roughness: 0.8 });
  own.onBeforeCompile = (shader) => {
    shader.vertexShader = shader.vertexShader
      .replace("#include <common>", "#include <common>\nattribute vec4 corner; varying vec3 vCorner;")
      .replace("#include <color_vertex>", "#include <color_vertex>\nvCorner = corner.xyz;");
    shader.fragmentShader = shader.fragmentShader
      .replace("#include <common>", "#include <common>\nvarying vec3 vCorner;")
      .replace("#include <color_fragment>", SHADED);
  };
  return own;
}

const SHADED = `
  vec3 light = mix(pow((vColor.rgb + .055) / 1.055, vec3(2.4)), vColor.rgb / 12.92, vec3(lessThanEqual(vColor.rgb, vec3(.04045))));
  vec2 fromMiddle = abs(vCorner.xy - .5);
  vec2 pixel = fwidth(vCorner.xy);
  vec2 line = smoothstep(.5 - .03 - pixel, .5 - .03 + pixel * .5, fromMiddle) * (1. - smoothstep(.06, .22, pixel));
  diffuseColor.rgb *= light * vCorner.z * (1. - .28 * max(line.x, line.y));`;
