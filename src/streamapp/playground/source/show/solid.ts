/** Read files of meshes and points: glTF, OBJ, STL, PLY. */

import {
  type BufferGeometry, Color, DoubleSide, type InstancedMesh, type Light, type Line, LineBasicMaterial, type Material, Mesh, MeshBasicMaterial,
  MeshStandardMaterial, type Object3D, Points, PointsMaterial, TextureLoader,
} from "three";
import { type GLTFParser, GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { OBJLoader } from "three/addons/loaders/OBJLoader.js";
import { PLYLoader } from "three/addons/loaders/PLYLoader.js";
import { STLLoader } from "three/addons/loaders/STLLoader.js";

import { bytesOf, type Media } from "../runs/content";
import { withNormals } from "./normals";
import type { Scale } from "./unpacked";

/** Which of its axes points upwards. */
export type Upright = "y" | "z";

/** What is shown, and what is said of it. */
export interface Solid {
  object: Object3D;
  name?: string | undefined;
  words: string;
  upright: Upright;
  /** What its colours mean. */
  scale?: Scale | undefined;
}

type Format = "glb" | "gltf" | "obj" | "stl" | "ply";
const CLAY = 0xc3c5ce;
const READ = "this view reads GLB, glTF, OBJ, STL and PLY";

/** Read a file. */
export async function solidOf(media: Media): Promise<Solid> {
  const data = await bytesOf(media.url);
  const format = formatOf(new Uint8Array(data), media);
  const object = await reading(data, format);
  finish(object);
  const counts = countsOf(object);
  if (!counts) throw new Error("there is nothing in it to be drawn");
  return { object, name: media.file_name, words: counts, upright: format === "stl" || format === "ply" ? "z" : "y" };
}

/** Tell a file's format by what it begins with; where that says nothing, by its name and type. */
function formatOf(bytes: Uint8Array, { content_type, file_name = "" }: Media): Format {
  const beginning = String.fromCharCode(...bytes.subarray(0, 64));
  if (beginning.startsWith("glTF")) return "glb";
  if (/^ply\s/.test(beginning)) return "ply";
  if (/^\s*\{/.test(beginning)) return "gltf";
  const named = ["obj", "stl"].find((ending) => content_type.includes(ending) || file_name.toLowerCase().endsWith(`.${ending}`));
  if (named) return named as Format;
  if (beginning.startsWith("solid")) return "stl";
  throw new Error(READ);
}

async function reading(data: ArrayBuffer, format: Format): Promise<Object3D> {
  try {
    if (format === "obj") return obj(new TextDecoder().decode(data));
    if (format === "stl") return matte(withNormals(new STLLoader().parse(data)));
    if (format === "ply") return ply(data);
    return await gltf(data);
  } catch (error) {
    if (error instanceof RangeError) throw new Error("it ends too early");
    if (error instanceof SyntaxError) throw new Error("its JSON cannot be read");
    throw new Error((error as Error).message.replace(/^THREE\.\w+: /, ""));
  }
}

function obj(text: string): Object3D {
  const hasNormals = /^vn\s/m.test(text);
  const object = new OBJLoader().parse(text);
  object.traverse((part) => {
    if (!(part instanceof Mesh)) return;
    if (!hasNormals) part.geometry = withNormals(part.geometry);
    part.material = matte(part.geometry).material;
    part.geometry.clearGroups();
  });
  return object;
}

const SPLAT = 0.28209479177387814; // how much of its colour a splat's first coefficient is; 1 / (2 sqrt(pi))

function ply(data: ArrayBuffer): Object3D {
  const head = new TextDecoder().decode(data.slice(0, 4096));
  const isSplats = head.includes("f_dc_2");
  const loader = new PLYLoader();
  if (isSplats) loader.setCustomPropertyNameMapping({ splat: ["f_dc_0", "f_dc_1", "f_dc_2"] });
  const geometry = loader.parse(data);
  if (isSplats) geometry.setAttribute("color", geometry.attributes.splat!.clone());
  if (isSplats) colourSplats(geometry);
  if (!geometry.index) return new Points(geometry, new PointsMaterial());
  return matte(geometry.attributes.normal ? geometry : withNormals(geometry));
}

function colourSplats(geometry: BufferGeometry): void {
  const colour = new Color();
  const values = geometry.attributes.color!;
  for (let n = 0; n < values.count; n++) {
    const [r, g, b] = [values.getX(n), values.getY(n), values.getZ(n)].map((part) => Math.min(1, Math.max(0, 0.5 + SPLAT * part)));
    colour.setRGB(r!, g!, b!, "srgb");
    values.setXYZ(n, colour.r, colour.g, colour.b);
  }
}

function matte(geometry: BufferGeometry): Mesh {
  const vertexColors = "color" in geometry.attributes;
  const color = vertexColors ? 0xffffff : CLAY;
  return new Mesh(geometry, new MeshStandardMaterial({ color, vertexColors, roughness: 0.8, side: DoubleSide }));
}

async function gltf(data: ArrayBuffer): Promise<Object3D> {
  const { scene, scenes } = await new GLTFLoader().register(readInline).parseAsync(data, "");
  const object = scene ?? scenes[0];
  if (!object) throw new Error("it has no scene");
  return object;
}

const PACKED = ["KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression", "KHR_texture_basisu"];

/** Read what a glTF file holds in itself: the page asks nobody for what is elsewhere, nor runs what unpacks it. */
function readInline(parser: GLTFParser) {
  const { json } = parser;
  const needed: string | undefined = json.extensionsRequired?.find((name: string) => PACKED.includes(name));
  if (needed) throw new Error(`it is packed with ${needed}, which this view cannot unpack; saved without, it can be shown`);
  json.extensionsUsed = json.extensionsUsed?.filter((name: string) => !PACKED.includes(name));
  const isMissing = ({ source }: { source?: number }) => !isInline(json.images?.[source ?? -1]);
  const missing = new Set((json.textures ?? []).flatMap((texture: any, n: number) => (texture.extensions?.EXT_texture_webp || texture.extensions?.EXT_texture_avif || !isMissing(texture) ? [] : [n])));
  if (missing.size) strip(json.materials, missing);
  parser.textureLoader = new TextureLoader(parser.options.manager);
  parser.loadBuffer = async (index) => {
    const { uri } = json.buffers[index];
    if (uri !== undefined && !uri.startsWith("data:")) throw new Error(`it needs ${uri}, which did not come with it`);
    return uri === undefined ? parser.extensions.KHR_binary_glTF.body : bytesOf(uri);
  };
  return { name: "inline" };
}

function isInline(image: { uri?: string; bufferView?: number } | undefined): boolean {
  return image !== undefined && (image.bufferView !== undefined || (image.uri ?? "").startsWith("data:"));
}

/** Take the textures out of materials that cannot be had. */
function strip(value: any, missing: Set<unknown>): void {
  if (typeof value !== "object" || value === null) return;
  for (const [key, part] of Object.entries<any>(value)) {
    if (/texture$/i.test(key) && missing.has(part?.index)) delete value[key];
    else strip(part, missing);
  }
}

/** Give what has no look of its own one, and leave out lights: the room has some. */
function finish(object: Object3D): void {
  const lights: Object3D[] = [];
  object.traverse((part) => {
    if ((part as Light).isLight) lights.push(part);
    if ((part as Points).isPoints) (part as Points).material = dots(part as Points);
    if ((part as Line).isLine) drawn((part as Line).material as LineBasicMaterial);
    if (part instanceof Mesh) for (const each of [part.material as Material].flat()) mended(each);
  });
  for (const light of lights) light.removeFromParent();
}

/** White, and as metallic and rough as can be, is what glTF takes where nobody has said anything: it means no metal. */
function mended(material: Material): void {
  if (material instanceof MeshBasicMaterial) material.toneMapped = false; // its colours are what is to be seen
  if (!(material instanceof MeshStandardMaterial)) return;
  if (material.metalness < 1 || material.roughness < 1 || material.metalnessMap || material.roughnessMap) return;
  Object.assign(material, { metalness: 0, roughness: 0.8 });
  const isWhite = material.color.getHex() === 0xffffff;
  if (isWhite && !material.map && !material.vertexColors) material.color.set(CLAY);
}

function dots({ geometry, material }: Points): PointsMaterial {
  const { map, color } = material as PointsMaterial;
  const vertexColors = "color" in geometry.attributes;
  const count = geometry.attributes.position?.count ?? 1;
  const size = Math.min(0.1, Math.max(0.018, 6 / Math.sqrt(count))); // that they touch each other on a surface
  const own = new PointsMaterial({ size, map, vertexColors, toneMapped: false });
  if (!vertexColors) own.color.set(color.getHex() === 0xffffff && !map ? 0x8f95ad : color);
  own.onBeforeCompile = (shader) => {
    const start = "#include <clipping_planes_fragment>";
    shader.fragmentShader = shader.fragmentShader.replace(start, `${start}\nif (distance(gl_PointCoord, vec2(.5)) > .5) discard;`);
  };
  (material as Material).dispose();
  return own;
}

/** A white line is seen on no white page. */
function drawn(material: LineBasicMaterial): void {
  material.toneMapped = false;
  if (!material.vertexColors && material.color.getHex() === 0xffffff) material.color.set(0x8f95ad);
}

function countsOf(object: Object3D): string {
  const counts = { triangles: 0, points: 0, lines: 0 };
  object.traverse((part) => {
    const { geometry, count = 1 } = part as Partial<InstancedMesh>;
    if (!geometry) return;
    const corners = geometry.index?.count ?? geometry.attributes.position?.count ?? 0;
    if ((part as Points).isPoints) counts.points += corners;
    else if ((part as Line).isLine) counts.lines += Math.ceil(corners / 2);
    else counts.triangles += Math.floor(corners / 3) * count;
  });
  const told = Object.entries(counts).filter(([, count]) => count > 0);
  return told.map(([name, count]) => `${count.toLocaleString("en")} ${count === 1 ? name.slice(0, -1) : name}`).join(", ");
}
