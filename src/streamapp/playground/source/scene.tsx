/** Show voxels and meshes in three dimensions; loaded when the first one comes. */

import { useEffect, useRef, useState } from "react";
import {
  Box3, BoxGeometry, Color, DirectionalLight, HemisphereLight, InstancedMesh, Matrix4, Mesh, MeshStandardMaterial, type Object3D,
  PerspectiveCamera, Scene, Sphere, Texture, TextureLoader, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { type GLTFParser, GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { OBJLoader } from "three/addons/loaders/OBJLoader.js";
import { PLYLoader } from "three/addons/loaders/PLYLoader.js";
import { STLLoader } from "three/addons/loaders/STLLoader.js";

import { bytesOf, type Content, type Media, type Voxels } from "./content";

/** A view that can be turned, moved and zoomed, also by keyboard; the view stays while its object is replaced. */
export default function SceneView({ content }: { content: Content }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef<View>(null);
  const [note, setNote] = useState("Loading.");
  useEffect(() => {
    try {
      view.current = new View(canvas.current!, setNote);
    } catch (error) {
      setNote(`No 3D view: ${(error as Error).message}`);
    }
    return () => view.current?.close();
  }, []);
  useEffect(() => void view.current?.want(content), [content]);
  return (
    <div className="scene">
      <canvas ref={canvas} role="img" aria-label="3D view" tabIndex={0} />
      <span className="note">{note} Drag to turn, scroll to zoom, arrow keys to move, with Shift to turn, + and - to zoom.</span>
    </div>
  );
}

// What is framed stays so while what is shown is about as large, and about there: else each preview would shake the view.
const MOST_GROWTH = 1.25;
const MOST_SHIFT = 0.25; // of the radius
const ZOOMS: Record<string, number> = { "+": 0.9, "=": 0.9, "-": 1 / 0.9 }; // on many keyboards + is = with Shift

class View {
  #tell: (note: string) => void;
  #renderer: WebGLRenderer;
  #scene = new Scene();
  #camera = new PerspectiveCamera(45, 1, 0.01, 1000);
  #controls: OrbitControls;
  #object: Object3D | undefined;
  #framed: Sphere | undefined;
  #resized: ResizeObserver;
  #wanted: Content | undefined;
  #isReading = false;
  #isClosed = false;

  constructor(canvas: HTMLCanvasElement, tell: (note: string) => void) {
    this.#tell = tell;
    this.#renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, preserveDrawingBuffer: true });
    const sun = new DirectionalLight(0xffffff, 2);
    sun.position.set(1, 2, 3);
    this.#camera.add(sun);
    this.#scene.add(this.#camera, new HemisphereLight(0xffffff, 0x667788, 1.5));
    this.#controls = new OrbitControls(this.#camera, canvas);
    this.#controls.listenToKeyEvents(canvas);
    canvas.addEventListener("keydown", ({ key, ctrlKey, metaKey }) => ctrlKey || metaKey || this.#zoom(ZOOMS[key] ?? 1));
    this.#controls.addEventListener("change", () => this.#draw());
    this.#resize(canvas); // the first framing looks at its shape
    this.#resized = new ResizeObserver(() => this.#resize(canvas));
    this.#resized.observe(canvas);
    canvas.addEventListener("webglcontextrestored", () => this.#draw()); // a phone takes the GPU from pages that it hides
  }

  /** Show a content as soon as the one before has been read; of those that come meanwhile only the newest. */
  async want(content: Content): Promise<void> {
    this.#wanted = content;
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#wanted && !this.#isClosed) {
      const next: Content = this.#wanted;
      this.#wanted = undefined;
      await this.#read(next);
    }
    this.#isReading = false;
  }

  async #read(content: Content): Promise<void> {
    try {
      const { object, words } = await objectOf(content);
      if (this.#isClosed) return;
      this.#show(object);
      this.#tell(words);
    } catch (error) {
      this.#tell(`The 3D object cannot be read: ${(error as Error).message}`);
    }
  }

  /** Put an object in the place of the one before, which is let go of when this one is drawn: they share a program. */
  #show(object: Object3D): void {
    const sphere = new Box3().setFromObject(object).getBoundingSphere(new Sphere());
    const framed = this.#framed && isAbout(sphere, this.#framed) ? this.#framed : this.#frame(sphere);
    object.position.sub(framed.center);
    const before = this.#object;
    if (before) this.#scene.remove(before);
    this.#scene.add((this.#object = object));
    this.#draw();
    if (before) dispose(before);
  }

  /** Have the camera see a sphere as it has seen the one before, from where the user has turned it. */
  #frame(sphere: Sphere): Sphere {
    if (!(sphere.radius > 0)) sphere.set(new Vector3(), 1); // of nothing, or a point
    const { position } = this.#camera;
    if (this.#framed) {
      position.multiplyScalar(sphere.radius / this.#framed.radius);
      this.#controls.target.multiplyScalar(sphere.radius / this.#framed.radius);
    } else {
      position.set(0.6, 0.5, 1).setLength((2.1 * sphere.radius) / Math.min(1, this.#camera.aspect));
    }
    this.#camera.near = sphere.radius / 100;
    this.#camera.far = sphere.radius * 100;
    this.#camera.updateProjectionMatrix();
    this.#controls.update();
    return (this.#framed = sphere);
  }

  #zoom(distance: number): void {
    const { target } = this.#controls;
    this.#camera.position.sub(target).multiplyScalar(distance).add(target);
    this.#controls.update();
  }

  close(): void {
    this.#isClosed = true;
    this.#resized.disconnect();
    this.#controls.dispose();
    if (this.#object) dispose(this.#object);
    this.#renderer.dispose();
    this.#renderer.forceContextLoss(); // browsers have sixteen of them, and would take the oldest from another view
  }

  #resize({ clientWidth, clientHeight }: HTMLCanvasElement): void {
    this.#renderer.setPixelRatio(devicePixelRatio);
    this.#renderer.setSize(clientWidth, clientHeight, false);
    this.#camera.aspect = clientWidth / Math.max(1, clientHeight);
    this.#camera.updateProjectionMatrix();
    this.#draw();
  }

  #draw(): void {
    this.#renderer.render(this.#scene, this.#camera);
  }
}

function isAbout({ center, radius }: Sphere, other: Sphere): boolean {
  const growth = Math.max(radius / other.radius, other.radius / radius);
  return growth < MOST_GROWTH && center.distanceTo(other.center) < MOST_SHIFT * other.radius;
}

/** Free what an object has on the GPU: whatever of it can be disposed of. */
function dispose(object: Object3D): void {
  object.traverse((part) => {
    const { geometry, material } = part as Partial<Mesh>; // lines and points have them, too
    geometry?.dispose();
    for (const each of [material ?? []].flat()) {
      for (const value of Object.values(each)) if (value instanceof Texture) value.dispose();
      each.dispose();
    }
    if (part instanceof InstancedMesh) part.dispose();
  });
}

async function objectOf(content: Content): Promise<{ object: Object3D; words: string }> {
  if (content.kind === "voxels") {
    return { object: cubes(content.voxels), words: `${content.voxels.positions.length} voxels.` };
  }
  const { media } = content as { media: Media };
  return { object: await read(await bytesOf(media.url), media), words: `${media.file_name ?? "Mesh"}.` };
}

function cubes({ positions, colors, sizes }: Voxels): Object3D {
  const mesh = new InstancedMesh(new BoxGeometry(0.95, 0.95, 0.95), new MeshStandardMaterial(), positions.length);
  const place = new Matrix4();
  const color = new Color();
  positions.forEach(([x = 0, y = 0, z = 0], n) => {
    const [r = 120, g = 140, b = 255] = colors?.[n] ?? [];
    const size = sizes?.[n] ?? 1;
    mesh.setMatrixAt(n, place.makeScale(size, size, size).setPosition(x, y, z));
    mesh.setColorAt(n, color.setRGB(r / 255, g / 255, b / 255, "srgb"));
  });
  return mesh;
}

async function read(data: ArrayBuffer, { content_type, file_name = "" }: Media): Promise<Object3D> {
  const is = (ending: string) => content_type.includes(ending) || file_name.toLowerCase().endsWith(`.${ending}`);
  if (is("obj")) return plain(new OBJLoader().parse(new TextDecoder().decode(data)));
  if (is("stl")) return new Mesh(new STLLoader().parse(data), new MeshStandardMaterial());
  if (is("ply")) return new Mesh(new PLYLoader().parse(data), new MeshStandardMaterial());
  const loader = new GLTFLoader().register(readInline);
  return plain((await loader.parseAsync(data, "")).scene);
}

/** Read what a glTF file holds in itself without `fetch`, which the page's policy keeps from data and blob URLs. */
function readInline(parser: GLTFParser) {
  parser.textureLoader = new TextureLoader(parser.options.manager);
  parser.loadBuffer = async (index) => {
    const { uri } = parser.json.buffers[index];
    return uri === undefined ? parser.extensions.KHR_binary_glTF.body : bytesOf(uri);
  };
  return { name: "inline" };
}

/** Meshes without normals are lit flat. */
function plain(object: Object3D): Object3D {
  object.traverse((part) => {
    if (part instanceof Mesh && !part.geometry.attributes.normal) part.geometry.computeVertexNormals();
  });
  return object;
}
