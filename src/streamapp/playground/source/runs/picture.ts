/** Pictures, as the browser reads them. */

const SMALL_PX = 192;

/** Return the picture at a URL; undefined where there is none, whatever it is called, or none any more. */
export async function pictureAt(url: string): Promise<HTMLImageElement | undefined> {
  const picture = Object.assign(new Image(), { src: url });
  return picture.decode().then(() => picture, () => undefined);
}

/** Return something that can be drawn in small, as a data URI. */
export function smallOf(drawn: CanvasImageSource, width: number, height: number): string {
  const scale = SMALL_PX / Math.max(width, height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width * scale);
  canvas.height = Math.max(1, height * scale);
  canvas.getContext("2d")!.drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/webp", 0.75);
}
