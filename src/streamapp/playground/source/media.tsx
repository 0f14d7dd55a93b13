/** Take an image, a sound, a film or a file: chosen, dropped, pasted, photographed, or by its URL. */

import type { WidgetProps } from "@rjsf/utils";
import { type ClipboardEvent, createContext, type DragEvent, useContext, useEffect, useRef, useState } from "react";

import { isOwn } from "./content";
import type { MediaKind } from "./schema";

/** Send a file to the server, and return the URL that stands for it in an input. */
export const Upload = createContext<(file: Blob, name: string) => Promise<string>>(async () => "");

/** The widget of a media field; its value is a URL. */
export function MediaInput({ id, schema, value, onChange }: WidgetProps) {
  const kind: MediaKind = (schema as any).media;
  const upload = useContext(Upload);
  const [note, setNote] = useState("");
  const [isFilming, setFilming] = useState(false);

  const take = async (file: Blob | undefined, name: string) => {
    if (!file) return;
    setNote("uploading");
    try {
      onChange(await upload(file, name));
      setNote(name);
    } catch (error) {
      setNote(`${name} was not taken: ${(error as Error).message}`);
    }
  };
  const takeFirst = (files: FileList | null) => take(files?.[0], files?.[0]?.name ?? "");
  const drop = (event: DragEvent) => {
    event.preventDefault();
    takeFirst(event.dataTransfer.files);
  };
  const paste = (event: ClipboardEvent) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    takeFirst(event.clipboardData.files);
  };

  return (
    <div className="media" onDrop={drop} onDragOver={(event) => event.preventDefault()} onPaste={paste}>
      <input id={id} type="file" accept={kind === "file" ? undefined : `${kind}/*`} aria-describedby={`${id}__description ${id}__error`}
        onChange={({ target }) => takeFirst(target.files)} />
      <div className="line">
        <input type="text" aria-label="Paste, or write a URL" placeholder="drop or paste here, or write a URL" value={value ?? ""}
          onChange={({ target }) => onChange(target.value || undefined)} />
        {kind === "image" && <button type="button" onClick={() => setFilming(!isFilming)}>Camera</button>}
        {value && <button type="button" onClick={() => onChange(undefined)}>Remove</button>}
      </div>
      {isFilming && <Camera onPicture={(picture) => { setFilming(false); take(picture, "camera.jpg"); }} onFail={setNote} />}
      <span className="note" aria-live="polite">{note}</span>
      {value && isOwn(value) && <Shown kind={kind} url={value} />}
    </div>
  );
}

function Shown({ kind, url }: { kind: MediaKind; url: string }) {
  if (kind === "image") return <img src={url} alt="chosen" />;
  if (kind === "video") return <video controls muted playsInline src={url} aria-label="chosen" />;
  return kind === "audio" ? <audio controls src={url} aria-label="chosen" /> : null;
}

interface CameraProps {
  onPicture: (picture: Blob) => void;
  onFail: (why: string) => void;
}

function Camera({ onPicture, onFail }: CameraProps) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (!navigator.mediaDevices) return onFail("the browser gives pages a camera only over https, or on localhost");
    const opening = navigator.mediaDevices.getUserMedia({ video: true });
    opening.then((film) => void (video.current && (video.current.srcObject = film)), (error) => onFail(`no camera: ${error.message}`));
    return () => void opening.then((film) => film.getTracks().forEach((track) => track.stop()), () => {});
  }, [onFail]);
  const shoot = () => {
    const { videoWidth, videoHeight } = video.current!;
    const canvas = Object.assign(document.createElement("canvas"), { width: videoWidth, height: videoHeight });
    canvas.getContext("2d")!.drawImage(video.current!, 0, 0);
    canvas.toBlob((picture) => picture && onPicture(picture), "image/jpeg", 0.92);
  };
  return (
    <div>
      <video ref={video} autoPlay muted playsInline aria-label="camera" />
      <button type="button" onClick={shoot}>Take the picture</button>
    </div>
  );
}
