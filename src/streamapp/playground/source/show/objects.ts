/** What is done to all parts of a thing. */

import { type InstancedMesh, type Material, type Mesh, type Object3D, Texture } from "three";

/** Return the materials of a thing, each once. */
export function materialsOf(object: Object3D): Material[] {
  const found = new Set<Material>();
  object.traverse((part) => [(part as Partial<Mesh>).material ?? []].flat().forEach((each) => found.add(each)));
  return [...found];
}

/** Draw its edges, or its faces. */
export function wire(object: Object3D, isWired: boolean): void {
  for (const material of materialsOf(object)) if ("wireframe" in material) material.wireframe = isWired;
}

/** Free what it has on the GPU: whatever of it can be disposed of, but for the sky, which others reflect. */
export function dispose(object: Object3D): void {
  for (const material of materialsOf(object)) {
    for (const [name, value] of Object.entries(material)) if (value instanceof Texture && name !== "envMap") value.dispose();
    material.dispose();
  }
  object.traverse((part) => {
    (part as Partial<Mesh>).geometry?.dispose(); // lines and points have one, too
    if ((part as InstancedMesh).isInstancedMesh) (part as InstancedMesh).dispose();
  });
}
