/** Normals where a file has none: round where faces meet at a small angle, sharp at an edge. */

import { BufferAttribute, type BufferGeometry } from "three";

const LEAST_COSINE = Math.cos((40 * Math.PI) / 180);
const MOST_CORNERS = 3_000_000;
const MOST_NEIGHBOURS = 64; // of one point; in the middle of a fan are thousands

/** Return the geometry with normals. */
export function withNormals(geometry: BufferGeometry): BufferGeometry {
  const corners = geometry.index?.count ?? geometry.attributes.position!.count;
  if (corners > MOST_CORNERS) {
    geometry.computeVertexNormals();
    return geometry;
  }
  const apart = geometry.index ? geometry.toNonIndexed() : geometry;
  if (apart !== geometry) geometry.dispose();
  const places = Float32Array.from(apart.attributes.position!.array);
  const { sums, units } = facesOf(places);
  apart.setAttribute("normal", new BufferAttribute(joined(sums, units, nextAt(places)), 3));
  return apart;
}

/** Return each face's normal, as long as twice its area, and of length 1. */
function facesOf(places: Float32Array) {
  const sums = new Float32Array(places.length / 3);
  const units = new Float32Array(places.length / 3);
  for (let face = 0; face + 2 < sums.length; face += 3) {
    const [a, b, c] = [3 * face, 3 * face + 3, 3 * face + 6];
    const [ux, uy, uz] = [places[b]! - places[a]!, places[b + 1]! - places[a + 1]!, places[b + 2]! - places[a + 2]!];
    const [vx, vy, vz] = [places[c]! - places[a]!, places[c + 1]! - places[a + 1]!, places[c + 2]! - places[a + 2]!];
    const normal = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx] as const;
    const length = Math.hypot(...normal) || 1;
    for (let axis = 0; axis < 3; axis++) {
      sums[face + axis] = normal[axis]!;
      units[face + axis] = normal[axis]! / length;
    }
  }
  return { sums, units };
}

/** Return for each corner the next one at its place; those at one place are a ring. */
function nextAt(places: Float32Array): Uint32Array {
  const count = places.length / 3;
  const next = Uint32Array.from({ length: count }, (_, n) => n);
  const bits = new Int32Array(places.buffer);
  const table = new Int32Array(2 ** Math.ceil(Math.log2(2 * count + 1))).fill(-1);
  for (let corner = 0; corner < count; corner++) {
    const at = 3 * corner;
    let hash = Math.imul(bits[at]!, 73856093) ^ Math.imul(bits[at + 1]!, 19349663) ^ Math.imul(bits[at + 2]!, 83492791);
    for (hash ^= hash >>> 15; ; hash++) {
      const first = table[hash & (table.length - 1)]!;
      if (first < 0) {
        table[hash & (table.length - 1)] = corner;
        break;
      }
      const other = 3 * first;
      if (bits[other] === bits[at] && bits[other + 1] === bits[at + 1] && bits[other + 2] === bits[at + 2]) {
        next[corner] = next[first]!;
        next[first] = corner;
        break;
      }
    }
  }
  return next;
}

function joined(sums: Float32Array, units: Float32Array, next: Uint32Array): Float32Array {
  const normals = new Float32Array(3 * next.length);
  for (let corner = 0; corner < next.length; corner++) {
    const own = corner - (corner % 3);
    let [x, y, z] = [sums[own]!, sums[own + 1]!, sums[own + 2]!];
    let other = next[corner]!;
    for (let seen = 0; other !== corner && seen < MOST_NEIGHBOURS; seen++, other = next[other]!) {
      const face = other - (other % 3);
      const cosine = units[own]! * units[face]! + units[own + 1]! * units[face + 1]! + units[own + 2]! * units[face + 2]!;
      if (cosine < LEAST_COSINE) continue;
      x += sums[face]!;
      y += sums[face + 1]!;
      z += sums[face + 2]!;
    }
    const length = Math.hypot(x, y, z) || 1;
    normals.set([x / length, y / length, z / length], 3 * corner);
  }
  return normals;
}
