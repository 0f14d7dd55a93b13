/** Measure files that do not say how large or how long they are: by the browser, in its own time. */

import { pictureAt } from "./picture";

export interface Measures {
  width?: number;
  height?: number;
  durationS?: number;
}

/** Measure an image, a sound or a film; what is none has no measures. */
export function measured(kind: string, url: string): Promise<Measures> {
  return kind === "image" ? sizeOf(url) : kind === "audio" || kind === "video" ? lengthOf(kind, url) : Promise.resolve({});
}

async function sizeOf(url: string): Promise<Measures> {
  const image = await pictureAt(url);
  return image ? { width: image.naturalWidth, height: image.naturalHeight } : {};
}

function lengthOf(kind: "audio" | "video", url: string): Promise<Measures> {
  const film = Object.assign(document.createElement(kind), { preload: "metadata", src: url }) as HTMLVideoElement;
  return new Promise((resolve) => {
    film.onerror = () => resolve({});
    film.onloadedmetadata = () => {
      const { duration, videoWidth: width = 0, videoHeight: height = 0 } = film;
      resolve({ ...(Number.isFinite(duration) && { durationS: duration }), ...(width > 0 && { width, height }) });
    };
  });
}
