/** How large a thing is, and from how far all of it is seen, whichever way it is turned. */

import { type BufferAttribute, InstancedMesh, type Mesh, type Object3D, type Points, type SkinnedMesh, Vector3 } from "three";

/** The room that a thing takes while it turns about the upright axis through its middle. */
export interface Extent {
  middle: Vector3;
  /** From the middle to its sides. */
  half: Vector3;
  /** How far from the middle its farthest point is. */
  radius: number;
  /** How high over the middle its lowest point is, below zero. */
  low: number;
  /** How far from the axis it reaches at a height over the middle: one pair after another. */
  rings: number[];
}

const BINS = 64; // of heights: what a ring is too wide for that is less than a pixel
const FILLED = 0.84; // of the view's height or width
const STRAY = 0.005; // of a cloud's points, at either end: what floats about does not count
const LEAST_CLOUD = 1000;
const MOST_SORTED = 20_000;
const NOTHING: Extent = { middle: new Vector3(), half: new Vector3(1, 1, 1), radius: 1, low: -1, rings: [1, -1, 1, 1] };

/** Measure what an object shows; it stands alone, as it is to be seen. */
export function extentOf(object: Object3D): Extent {
  object.updateMatrixWorld(true);
  const low = new Vector3(Infinity, Infinity, Infinity);
  const high = low.clone().negate();
  const within = cores(object);
  each(object, within, (point) => void (low.min(point), high.max(point)));
  if (!(low.x <= high.x)) return NOTHING;
  const middle = low.clone().add(high).divideScalar(2);
  const half = high.clone().sub(low).divideScalar(2);
  const height = 2 * half.y || 1;
  const widths = new Float64Array(BINS);
  const bottoms = new Float64Array(BINS).fill(Infinity);
  const tops = new Float64Array(BINS).fill(-Infinity);
  let farthest = 0;
  each(object, within, (point) => {
    const { x, y, z } = point.sub(middle);
    const bin = Math.min(BINS - 1, Math.floor(((y + height / 2) / height) * BINS));
    const square = x * x + z * z;
    widths[bin] = Math.max(widths[bin]!, square);
    bottoms[bin] = Math.min(bottoms[bin]!, y);
    tops[bin] = Math.max(tops[bin]!, y);
    farthest = Math.max(farthest, square + y * y);
  });
  const rings = [...widths].flatMap((square, n) => (tops[n]! < bottoms[n]! ? [] : [Math.sqrt(square), bottoms[n]!, Math.sqrt(square), tops[n]!]));
  const radius = Math.sqrt(farthest) || 1; // a single point has room around it
  return { middle, half, radius, low: low.y - middle.y, rings };
}

/** Where the camera is to be: how far from a point above the middle. */
export interface Stand {
  distance: number;
  height: number;
}

const TRIES = 24; // each leaves two thirds of the range

/**
 * Return from where the whole is seen from a height, an angle in radians, while it turns.
 *
 * @param tangent of half the camera's angle of view, upright
 */
export function standOf(extent: Extent, elevation: number, tangent: number, aspect: number): Stand {
  // What is near looks larger, so the point that is looked at is not the middle: the one from which least room is needed.
  let [low, high] = [-extent.half.y, extent.half.y];
  for (let n = 0; n < TRIES; n++) {
    const [one, other] = [low + (high - low) / 3, high - (high - low) / 3];
    if (uprightNeed(extent, one, elevation, tangent) < uprightNeed(extent, other, elevation, tangent)) high = other;
    else low = one;
  }
  const height = (low + high) / 2;
  const needs = [uprightNeed(extent, height, elevation, tangent), acrossNeed(extent, height, elevation, tangent * aspect), 1.1 * extent.radius];
  return { distance: Math.max(...needs), height };
}

/** How far away nothing is cut off above or below. */
function uprightNeed({ rings }: Extent, at: number, elevation: number, tangent: number): number {
  const up = tangent * FILLED;
  const [sine, cosine] = [Math.sin(elevation), Math.cos(elevation)];
  let need = 0;
  for (let n = 0; n < rings.length; n += 2) {
    const [width, height] = [rings[n]!, rings[n + 1]! - at];
    const above = height * (cosine + up * sine) + width * Math.abs(up * cosine - sine);
    const below = height * (up * sine - cosine) + width * Math.abs(up * cosine + sine);
    need = Math.max(need, above / up, below / up);
  }
  return need;
}

/** How far away nothing is cut off at the sides. */
function acrossNeed({ rings }: Extent, at: number, elevation: number, tangent: number): number {
  const across = tangent * FILLED;
  const [sine, swing] = [Math.sin(elevation), Math.hypot(1, Math.cos(elevation) * across)];
  let need = 0;
  for (let n = 0; n < rings.length; n += 2) need = Math.max(need, (rings[n]! * swing) / across + (rings[n + 1]! - at) * sine);
  return need;
}

/** Return an extent as it is about another middle: it takes more room there. */
export function about(extent: Extent, middle: Vector3): Extent {
  const [x, y, z] = extent.middle.clone().sub(middle).toArray();
  const shift = Math.hypot(x, z);
  const rings = extent.rings.map((value, n) => value + (n % 2 ? y : shift));
  return { ...extent, middle, radius: extent.radius + Math.hypot(shift, y), low: extent.low + y, rings };
}

/** From where a thing is seen first: its longer side from the front, what is flat from higher up. */
export function outlookOf({ half, radius }: Extent): Vector3 {
  const breadth = Math.min(half.x, half.z) / radius;
  const elevation = half.y < 0.12 * radius ? 0.25 + 0.5 * breadth : half.y > 0.9 * radius ? 0.25 : 0.4;
  return new Vector3().setFromSphericalCoords(1, Math.PI / 2 - elevation, half.z > 2 * half.x ? 1.05 : 0.5);
}

type Bounds = { low: Vector3; high: Vector3 };

/** Call a function with each point that is drawn; it may change it. */
function each(object: Object3D, within: Map<Object3D, Bounds>, visit: (point: Vector3) => void): void {
  const point = new Vector3();
  object.traverse((part) => {
    const places = (part as Partial<Mesh>).geometry?.attributes.position as BufferAttribute | undefined;
    if (!places) return;
    if (part instanceof InstancedMesh) return eachInstance(part, visit);
    const bounds = within.get(part);
    const mesh = part as Mesh;
    const isBent = (mesh as SkinnedMesh).isSkinnedMesh || (mesh.isMesh && mesh.morphTargetInfluences !== undefined);
    for (let n = 0; n < places.count; n++) {
      if (isBent) mesh.getVertexPosition(n, point);
      else point.fromBufferAttribute(places, n);
      point.applyMatrix4(part.matrixWorld);
      if (Number.isFinite(point.x + point.y + point.z) && (!bounds || isWithin(point, bounds))) visit(point);
    }
  });
}

function eachInstance(mesh: InstancedMesh, visit: (point: Vector3) => void): void {
  mesh.geometry.computeBoundingBox();
  const { min, max } = mesh.geometry.boundingBox!;
  const place = mesh.matrix.clone();
  const corner = new Vector3();
  for (let n = 0; n < mesh.count; n++) {
    mesh.getMatrixAt(n, place);
    place.premultiply(mesh.matrixWorld);
    for (let bits = 0; bits < 8; bits++) {
      visit(corner.set(bits & 1 ? max.x : min.x, bits & 2 ? max.y : min.y, bits & 4 ? max.z : min.z).applyMatrix4(place));
    }
  }
}

/** Return where nearly all points of each large cloud are. */
function cores(object: Object3D): Map<Object3D, Bounds> {
  const found = new Map<Object3D, Bounds>();
  object.traverse((part) => {
    const places = (part as Points).isPoints && ((part as Points).geometry.attributes.position as BufferAttribute);
    if (!places || places.count < LEAST_CLOUD) return;
    const stride = Math.ceil(places.count / MOST_SORTED);
    const sample = Array.from({ length: Math.floor(places.count / stride) }, (_, n) =>
      new Vector3().fromBufferAttribute(places, n * stride).applyMatrix4(part.matrixWorld));
    const [low, high] = [new Vector3(), new Vector3()];
    for (const axis of ["x", "y", "z"] as const) {
      const sorted = Float64Array.from(sample, (point) => point[axis]).filter(Number.isFinite).sort();
      const [from, to] = [sorted[Math.floor(STRAY * sorted.length)] ?? 0, sorted[Math.floor((1 - STRAY) * sorted.length)] ?? 0];
      low[axis] = from - (to - from) / 10; // what is near belongs to it
      high[axis] = to + (to - from) / 10;
    }
    found.set(part, { low, high });
  });
  return found;
}

function isWithin({ x, y, z }: Vector3, { low, high }: Bounds): boolean {
  return x >= low.x && x <= high.x && y >= low.y && y <= high.y && z >= low.z && z <= high.z;
}
