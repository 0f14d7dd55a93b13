/**
 * A sky with three soft lamps, for what reflects: without one, metal is black.
 *
 * It is computed here, as three's PMREMGenerator takes ten seconds where there is no GPU: the mip levels of a cube map are
 * what materials of rising roughness reflect, as `PMREMGenerator.lodToRoughness` has it.
 * Source: Karis, "Real Shading in Unreal Engine 4", 2013 (view along the normal).
 */

import { CubeReflectionMapping, CubeTexture, DataTexture, DataUtils, HalfFloatType, LinearFilter, LinearMipmapLinearFilter } from "three";

const SIZES = [64, 32, 16, 8, 4];
const SUMMED = 16; // texels along a face of which rough levels are made
type Direction = [x: number, y: number, z: number];

// Where each lamp is, how wide, in radians, and how bright.
const LAMPS: [Direction, number, number][] = [[[-0.65, 0.55, 0.52], 0.42, 3.2], [[0.9, 0.25, 0.35], 0.25, 1.6], [[0.2, 0.5, -0.84], 0.5, 2.6]];

/** Return the light that comes from a direction, as grey. */
function lightFrom([x, y, z]: Direction): number {
  let light = 0.12 + 0.5 * smooth(-1, 1, y); // from a dim floor to a bright ceiling
  for (const [[u, v, w], width, brightness] of LAMPS) {
    const angle = Math.acos(Math.min(1, x * u + y * v + z * w));
    light += brightness * (1 - smooth(0.6 * width, 1.3 * width, angle));
  }
  return light;
}

function smooth(from: number, to: number, value: number): number {
  const share = Math.min(1, Math.max(0, (value - from) / (to - from)));
  return share * share * (3 - 2 * share);
}

/** Return the direction of a texel of a face, in the order of WebGL's. */
function directionOf(face: number, column: number, row: number, size: number): Direction {
  const u = (2 * (column + 0.5)) / size - 1;
  const v = (2 * (row + 0.5)) / size - 1;
  const [x, y, z] = [[1, -v, -u], [-1, -v, u], [u, 1, v], [u, -1, -v], [u, -v, 1], [-u, -v, -1]][face] as Direction;
  const length = Math.hypot(x, y, z);
  return [x / length, y / length, z / length];
}

function directions(size: number): Direction[] {
  return Array.from({ length: 6 * size * size }, (_, n) => {
    const place = n % (size * size);
    return directionOf(Math.floor(n / (size * size)), place % size, Math.floor(place / size), size);
  });
}

/** Return what a surface of a roughness reflects towards each direction that it may face. */
function reflected(size: number, roughness: number): number[] {
  if (roughness === 0) return directions(size).map(lightFrom);
  const sources = directions(SUMMED).map((from) => ({ from, light: lightFrom(from), solid: solidAngle(from) }));
  const squared = roughness ** 4;
  return directions(size).map(([x, y, z]) => {
    let [sum, weights] = [0, 0];
    for (const { from, light, solid } of sources) {
      const cosine = x * from[0] + y * from[1] + z * from[2];
      if (cosine <= 0) continue;
      const spread = ((cosine + 1) / 2) * (squared - 1) + 1;
      const weight = (solid * cosine) / (spread * spread);
      sum += weight * light;
      weights += weight;
    }
    return sum / weights;
  });
}

/** How much of the sphere a texel takes: those at a face's corners less. */
function solidAngle([x, y, z]: Direction): number {
  return Math.max(Math.abs(x), Math.abs(y), Math.abs(z)) ** 3;
}

function faces(size: number, roughness: number): DataTexture[] {
  const light = reflected(size, roughness).map(DataUtils.toHalfFloat);
  const one = DataUtils.toHalfFloat(1);
  return Array.from({ length: 6 }, (_, face) => {
    const own = light.slice(face * size * size, (face + 1) * size * size);
    return new DataTexture(Uint16Array.from(own.flatMap((grey) => [grey, grey, grey, one])), size, size);
  });
}

let levels: DataTexture[][] | undefined;

/** Return the sky; the numbers are computed once. */
export function skyTexture(): CubeTexture {
  const last = SIZES.length - 1;
  levels ??= SIZES.map((size, lod) => faces(size, 1 - Math.sqrt(1 - lod / last)));
  const [sharp, ...rough] = levels as [DataTexture[], ...DataTexture[][]];
  const texture = new CubeTexture(sharp, CubeReflectionMapping);
  // three takes as many levels to be there as there are mipmaps, without the sharp one: one more makes it right.
  texture.mipmaps = [...rough, faces(2, 1)].map((image) => ({ image })) as never;
  return Object.assign(texture, {
    type: HalfFloatType, minFilter: LinearMipmapLinearFilter, magFilter: LinearFilter, generateMipmaps: false, needsUpdate: true, isPMREMTexture: true,
  });
}
