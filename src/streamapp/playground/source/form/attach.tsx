/** Put a picture to a message: chosen, or pasted. */

import { type ClipboardEvent, useContext, useRef, useState } from "react";

import { Icon, IconButton } from "../parts/icon";
import { isOwn } from "../runs/content";
import { Upload } from "./upload";

export interface Attaching {
  note: string;
  take: (file: File | undefined) => Promise<void>;
  paste: (event: ClipboardEvent) => void;
}

/** Send pictures to the server, and tell the URLs that stand for them. */
export function useAttaching(onTaken: (url: string) => void): Attaching {
  const upload = useContext(Upload);
  const [note, setNote] = useState("");
  const newest = useRef(onTaken);
  newest.current = onTaken; // one may go on writing while it is sent
  const take = async (file: File | undefined) => {
    if (!file) return;
    setNote("Uploading");
    try {
      newest.current(await upload(file, file.name));
      setNote("");
    } catch (error) {
      setNote(`${file.name} was not taken: ${(error as Error).message}`);
    }
  };
  const paste = (event: ClipboardEvent) => {
    const picture = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (!picture) return;
    event.preventDefault();
    take(picture);
  };
  return { note, take, paste };
}

/** The button that opens the choice of files. */
export function AttachButton({ name, take }: { name: string; take: Attaching["take"] }) {
  const chooser = useRef<HTMLInputElement>(null);
  return (
    <>
      <input ref={chooser} type="file" accept="image/*" hidden aria-label={name}
        onChange={({ target }) => void take(target.files?.[0]).then(() => (target.value = ""))} />
      <IconButton sign="picture" name={name} onClick={() => chooser.current!.click()} />
    </>
  );
}

/** A picture of a message; the page asks no other host for one. */
export function Picture({ url, onRemove, name }: { url: string; name: string; onRemove?: () => void }) {
  return (
    <span className="picture">
      {isOwn(url) ? <img src={url} alt={name} /> : <span className="note">A picture at {url}</span>}
      {onRemove && <button type="button" aria-label={`Remove ${name}`} title="Remove" onClick={onRemove}><Icon sign="close" /></button>}
    </span>
  );
}
