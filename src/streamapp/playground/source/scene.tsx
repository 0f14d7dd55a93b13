/** Show voxels and meshes in three dimensions; loaded when the first one comes. */

import { useEffect, useRef, useState } from "react";
import {
  Box3, BoxGeometry, Color, DirectionalLight, HemisphereLight, InstancedMesh, Matrix4, Mesh, MeshStandardMaterial, type Object3D,
  PerspectiveCamera, Scene, Sphere, TextureLoader, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { type GLTFParser, GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { OBJLoader } from "three/addons/loaders/OBJLoader.js";
import { PLYLoader } from "three/addons/loaders/PLYLoader.js";
import { STLLoader } from "three/addons/loaders/STLLoader.js";

import type { Content, Media, Voxels } from "./content";

/** A view that can be turned, moved and zoomed, also by keyboard; the view stays while its object is replaced. */
export default function SceneView({ content }: { content: Content }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef<View>(null);
  const [note, setNote] = useState("Loading.");
  useEffect(() => {
    try {
      view.current = new View(canvas.current!);
    } catch (error) {
      setNote(`No 3D view: ${(error as Error).message}`);
    }
    return () => view.current?.close();
  }, []);
  useEffect(() => {
    let isCurrent = true;
    objectOf(content).then(
      ({ object, words }) => {
        if (!isCurrent || !view.current) return;
        view.current.show(object);
        setNote(words);
      },
      (error: Error) => setNote(`The 3D object cannot be read: ${error.message}`),
    );
    return () => void (isCurrent = false);
  }, [content]);
  return (
    <div className="scene">
      <canvas ref={canvas} role="img" aria-label="3D view" tabIndex={0} />
      <span className="note">{note} Drag to turn, scroll to zoom, arrow keys to move.</span>
    </div>
  );
}

class View {
  #renderer: WebGLRenderer;
  #scene = new Scene();
  #camera = new PerspectiveCamera(45, 1, 0.01, 1000);
  #controls: OrbitControls;
  #object: Object3D | undefined;
  #resized: ResizeObserver;

  constructor(canvas: HTMLCanvasElement) {
    this.#renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, preserveDrawingBuffer: true });
    const sun = new DirectionalLight(0xffffff, 2);
    sun.position.set(1, 2, 3);
    this.#camera.add(sun);
    this.#scene.add(this.#camera, new HemisphereLight(0xffffff, 0x667788, 1.5));
    this.#controls = new OrbitControls(this.#camera, canvas);
    this.#controls.listenToKeyEvents(canvas);
    this.#controls.addEventListener("change", () => this.#draw());
    this.#resized = new ResizeObserver(() => this.#resize(canvas));
    this.#resized.observe(canvas);
  }

  /** Put an object in the place of the one before; the first one is framed by the camera. */
  show(object: Object3D): void {
    const { center, radius } = new Box3().setFromObject(object).getBoundingSphere(new Sphere());
    object.position.sub(center);
    const before = this.#object;
    if (before) this.#scene.remove(before);
    this.#scene.add((this.#object = object));
    if (before) dispose(before);
    else this.#camera.position.set(0.6, 0.5, 1).setLength(3 * (radius || 1));
    this.#camera.near = (radius || 1) / 100;
    this.#camera.far = (radius || 1) * 100;
    this.#camera.updateProjectionMatrix();
    this.#controls.update();
    this.#draw();
  }

  close(): void {
    this.#resized.disconnect();
    this.#controls.dispose();
    if (this.#object) dispose(this.#object);
    this.#renderer.dispose();
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

function dispose(object: Object3D): void {
  object.traverse((part) => {
    if (!(part instanceof Mesh)) return;
    part.geometry.dispose();
    for (const material of [part.material].flat()) material.dispose();
  });
}

async function objectOf(content: Content): Promise<{ object: Object3D; words: string }> {
  if (content.kind === "voxels") {
    return { object: cubes(content.voxels), words: `${content.voxels.positions.length} voxels.` };
  }
  const { media } = content as { media: Media };
  return { object: await read(await bytesOf(media.url), media), words: `${media.file_name ?? "Mesh"}.` };
}

function cubes({ positions, colors }: Voxels): Object3D {
  const mesh = new InstancedMesh(new BoxGeometry(0.95, 0.95, 0.95), new MeshStandardMaterial(), positions.length);
  const place = new Matrix4();
  const color = new Color();
  positions.forEach(([x = 0, y = 0, z = 0], n) => {
    const [r = 120, g = 140, b = 255] = colors?.[n] ?? [];
    mesh.setMatrixAt(n, place.makeTranslation(x, y, z));
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

async function bytesOf(url: string): Promise<ArrayBuffer> {
  const inline = /^data:[^,]*?(;base64)?,/i.exec(url);
  if (!inline) return (await fetch(url)).arrayBuffer();
  const body = url.slice(inline[0].length);
  const text = inline[1] ? atob(body) : decodeURIComponent(body);
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
}
