/** Show images: one as large as there is room, several in an even grid; enlarged, copied, downloaded. */

import { useRef, useState } from "react";

import { CAN_COPY_IMAGES, CopySign, copiedImage } from "../parts/copy";
import { IconButton } from "../parts/icon";
import { lately } from "../parts/lately";
import type { Media } from "../runs/content";
import type { Picture } from "./lightbox";
import { DownloadSign, fileName, InputSign } from "./save";

const TINY_PX = 64; // up to which one wants to see the pixels
const MOST_COLUMNS = 5;
const WIDER = 1.3; // than high should the whole be
const MOST_UNLIKE = 0.02; // by which a preview may be narrower than its result without a jump

const Lightbox = lately(async () => (await import("./lightbox")).Lightbox);

let lastRatio = 1; // the place of the next picture is as large as the last one's until it is there

interface ImagesProps {
  pictures: Picture[];
  alt: "preview" | "result";
  step: number | undefined;
}

/** All images of a frame; the elements stay while their pictures change, so nothing flickers or jumps. */
export function Images({ pictures, alt, step }: ImagesProps) {
  const [ratio, setRatio] = useState(() => ratioOf(pictures[0]!.media) ?? lastRatio);
  const [zoomed, zoom] = useState<number>();
  const count = pictures.length;
  const fit = ({ naturalWidth, naturalHeight }: HTMLImageElement) => {
    const next = naturalWidth / naturalHeight;
    if (Math.abs(next / ratio - 1) > MOST_UNLIKE) setRatio((lastRatio = next));
  };
  return (
    <div className={count > 1 ? "images grid" : "images"} ref={shaped(ratio, count)}>
      {pictures.map(({ slot, media }, n) => (
        <ImageView key={slot} media={media} alt={alt} step={step} name={fileName(media, count > 1 ? `${alt}-${n + 1}` : alt)}
          onZoom={() => zoom(n)} onLoad={n === 0 ? fit : undefined} />
      ))}
      {zoomed !== undefined && (
        <Lightbox pictures={pictures} alt={alt} at={Math.min(zoomed, count - 1)} onChoose={zoom} onClose={() => zoom(undefined)} />
      )}
    </div>
  );
}

/** Return what lays out so many boxes of one shape. */
export function shaped(ratio: number, count: number): (box: HTMLElement | null) => void {
  const columns = columnsFor(count);
  return (box) => {
    box?.style.setProperty("--ratio", String(ratio));
    box?.style.setProperty("--columns", String(columns));
    box?.style.setProperty("--rows", String(Math.ceil(count / columns)));
  };
}

/** Return how many stand beside each other, so that few places stay empty and the whole is of a good shape. */
function columnsFor(count: number): number {
  if (count <= 3) return count;
  const cost = (columns: number) => ((columns - (count % columns)) % columns) + Math.abs(columns - Math.sqrt(WIDER * count));
  return [...Array(MOST_COLUMNS - 1).keys()].map((n) => n + 2).sort((a, b) => cost(a) - cost(b))[0]!;
}

function ratioOf({ width, height }: Media): number | undefined {
  return width && height ? width / height : undefined;
}

interface ImageProps {
  media: Media;
  alt: "preview" | "result";
  step: number | undefined;
  name: string;
  onZoom: () => void;
  onLoad: ((image: HTMLImageElement) => void) | undefined;
}

function ImageView({ media, alt, step, name, onZoom, onLoad }: ImageProps) {
  const image = useRef<HTMLImageElement>(null);
  const [isTiny, setTiny] = useState(false);
  const [brokenUrl, setBroken] = useState<string>();
  const isBroken = brokenUrl === media.url;
  const look = () => {
    const { naturalWidth, naturalHeight } = image.current!;
    setTiny(Math.max(naturalWidth, naturalHeight) <= TINY_PX);
    onLoad?.(image.current!);
  };
  return (
    <figure className={`image ${isBroken ? "broken" : isTiny ? "tiny" : ""}`}>
      <img ref={image} src={media.url} alt={alt} data-step={step} onClick={onZoom} onLoad={look} onError={() => setBroken(media.url)} />
      {isBroken && <p className="note">This picture cannot be shown.</p>}
      <figcaption className="signs">
        <IconButton sign="zoom" name="Zoom" onClick={onZoom} />
        {CAN_COPY_IMAGES && <CopySign name="Copy image" copy={() => copiedImage(media.url)} />}
        <InputSign media={media} />
        <DownloadSign media={media} name={name} />
      </figcaption>
    </figure>
  );
}
