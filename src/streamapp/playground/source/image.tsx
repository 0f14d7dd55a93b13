/** Show an image: replaced in place, enlarged, downloaded. */

import { useRef, useState } from "react";

import type { Media } from "./content";

interface ImageProps {
  media: Media;
  alt: "preview" | "result";
  step: number | undefined;
}

/** One image of the output; the element stays while its picture changes, so nothing flickers. */
export function ImageView({ media, alt, step }: ImageProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [isZoomed, setZoomed] = useState(false);
  const zoom = () => {
    setZoomed(true);
    dialog.current!.showModal();
  };
  return (
    <figure>
      <img src={media.url} alt={alt} data-step={step} onClick={zoom} />
      <figcaption className="line">
        <button type="button" onClick={zoom}>Zoom</button>
        <a href={media.url} download={media.file_name ?? fileName(media, alt)}>Download</a>
      </figcaption>
      <dialog ref={dialog} aria-label="Zoomed image" onClose={() => setZoomed(false)}>
        {isZoomed && <img src={media.url} alt={`zoomed ${alt}`} onClick={() => dialog.current!.close()} />}
        <button type="button" onClick={() => dialog.current!.close()}>Close</button>
      </dialog>
    </figure>
  );
}

function fileName({ content_type }: Media, alt: string): string {
  return `${alt}.${content_type.split("/")[1]?.replace("jpeg", "jpg") ?? "bin"}`;
}
