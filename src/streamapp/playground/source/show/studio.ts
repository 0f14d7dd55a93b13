/** The room that a thing is shown in: lights that go with the camera, a sky for what reflects, a soft shadow below. */

import {
  type Camera, DirectionalLight, DoubleSide, Euler, Group, HemisphereLight, Mesh, MeshDepthMaterial, NoBlending, OrthographicCamera, PlaneGeometry,
  type Scene, ShaderMaterial, Vector2, Vector3, type WebGLRenderer, WebGLRenderTarget,
} from "three";

const SHADOW_PX = 64;
const SHADOW_ROOM = 1.35; // how much wider than the thing its shadow may be
const SHADOW_HEIGHT = 0.7; // of the radius: what is higher casts none

export class Studio {
  #rig = new Group();
  /** How the sky is turned, for each material that reflects it. */
  readonly turned = new Euler();
  #sky: HemisphereLight;
  #lights: DirectionalLight[];
  #shadow = new ContactShadow();

  constructor(scene: Scene) {
    this.#sky = new HemisphereLight();
    this.#lights = [[-0.55, 0.8, 1], [0.6, 0.7, -0.9]].map((from) => {
      const light = new DirectionalLight();
      light.position.fromArray(from);
      this.#rig.add(light, light.target);
      return light;
    });
    scene.add(this.#rig, this.#sky, this.#shadow.plane);
  }

  /** Turn as the camera is: what one sees is lit alike from all sides. */
  follow({ position, quaternion }: Camera): void {
    this.#rig.quaternion.copy(quaternion);
    this.turned.y = -Math.atan2(position.x, position.z);
  }

  /** Light it for a bright page, or a dark one. */
  light(isDark: boolean): void {
    const [key, rim] = this.#lights as [DirectionalLight, DirectionalLight];
    this.#sky.color.set(isDark ? 0xe8ebff : 0xffffff);
    this.#sky.groundColor.set(isDark ? 0x4a4a60 : 0xb9b4bd);
    this.#sky.intensity = isDark ? 1.2 : 1.35;
    key.intensity = 1.75;
    rim.intensity = isDark ? 2 : 0.9;
    rim.color.set(isDark ? 0xd9dcff : 0xffffff);
    this.#shadow.light(isDark);
  }

  /** Cast the shadow of what stands there. */
  cast(renderer: WebGLRenderer, scene: Scene, low: number, width: number): void {
    this.#shadow.cast(renderer, scene, low, width);
  }

  /** Take the shadow away. */
  clear(): void {
    this.#shadow.plane.visible = false;
  }

  close(): void {
    this.#shadow.close();
    for (const light of this.#lights) light.dispose();
    this.#sky.dispose();
  }
}

// The plane takes light, where the page is dark, and the shadow takes it away again.
const GROUND = `
  uniform sampler2D map; uniform float dark; uniform float glow; varying vec2 at;
  void main() {
    float shade = texture2D(map, vec2(1. - at.x, at.y)).r * dark; // seen from above
    float pool = glow * smoothstep(.5, 0., distance(at, vec2(.5)));
    float cover = shade + pool * (1. - shade);
    gl_FragColor = vec4(vec3(pool * (1. - shade) / max(cover, 1e-4)), cover);
  }`;
const FLAT = `varying vec2 at; void main() { at = uv; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.); }`;
const BLUR = `
  uniform sampler2D map; uniform vec2 step; varying vec2 at;
  void main() {
    float sum = 0., weights = 0.;
    for (float n = -6.; n <= 6.; n++) {
      float weight = exp(-n * n / 14.);
      sum += weight * texture2D(map, at + n * step).r;
      weights += weight;
    }
    gl_FragColor = vec4(sum / weights);
  }`;

/** What is near the ground darkens it: seen from below, and blurred. */
class ContactShadow {
  readonly plane: Mesh<PlaneGeometry, ShaderMaterial>;
  #near = target();
  #other = target();
  #camera = new OrthographicCamera();
  #depth = new MeshDepthMaterial({ side: DoubleSide, blending: NoBlending });
  #blur = new ShaderMaterial({ uniforms: { map: { value: null }, step: { value: new Vector2() } }, vertexShader: FLAT, fragmentShader: BLUR });
  #screen: Mesh;
  #lens = new OrthographicCamera(-0.5, 0.5, 0.5, -0.5, -1, 1);

  constructor() {
    const uniforms = { map: { value: this.#near.texture }, dark: { value: 0 }, glow: { value: 0 } };
    const look = { uniforms, vertexShader: FLAT, fragmentShader: GROUND, transparent: true, depthWrite: false };
    this.plane = new Mesh(new PlaneGeometry(), new ShaderMaterial(look));
    this.plane.rotation.x = -Math.PI / 2;
    this.plane.renderOrder = -1;
    this.#screen = new Mesh(this.plane.geometry, this.#blur);
    this.#depth.onBeforeCompile = (shader) => {
      const written = "gl_FragColor = vec4( vec3( 1.0 - fragCoordZ ), opacity );";
      shader.fragmentShader = shader.fragmentShader.replace(written, "gl_FragColor = vec4(pow(1. - fragCoordZ, 2.));");
    };
  }

  light(isDark: boolean): void {
    const { dark, glow } = this.plane.material.uniforms;
    dark!.value = isDark ? 0.85 : 0.4;
    glow!.value = isDark ? 0.09 : 0;
  }

  cast(renderer: WebGLRenderer, scene: Scene, low: number, width: number): void {
    const half = SHADOW_ROOM * width;
    this.plane.scale.setScalar(2 * half);
    this.plane.position.y = low - 0.002;
    Object.assign(this.#camera, { left: -half, right: half, top: half, bottom: -half, near: 0, far: SHADOW_HEIGHT });
    this.#camera.position.y = low - 0.002;
    this.#camera.up.set(0, 0, -1);
    this.#camera.lookAt(new Vector3(0, low + 1, 0));
    this.#camera.updateProjectionMatrix();
    this.plane.visible = false;
    scene.overrideMaterial = this.#depth;
    renderer.setRenderTarget(this.#near);
    renderer.render(scene, this.#camera);
    scene.overrideMaterial = null;
    for (const width of [0.7, 0.4]) this.#soften(renderer, width / SHADOW_PX);
    renderer.setRenderTarget(null);
    this.plane.visible = true;
  }

  #soften(renderer: WebGLRenderer, step: number): void {
    const { map, step: direction } = this.#blur.uniforms;
    for (const [from, to, x, y] of [[this.#near, this.#other, step, 0], [this.#other, this.#near, 0, step]] as const) {
      map!.value = from.texture;
      direction!.value.set(x, y);
      renderer.setRenderTarget(to);
      renderer.render(this.#screen, this.#lens);
    }
  }

  close(): void {
    for (const part of [this.#near, this.#other, this.#depth, this.#blur, this.plane.material, this.plane.geometry]) part.dispose();
  }
}

function target(): WebGLRenderTarget {
  return new WebGLRenderTarget(SHADOW_PX, SHADOW_PX, { generateMipmaps: false });
}
