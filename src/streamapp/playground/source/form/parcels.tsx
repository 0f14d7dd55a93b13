/** Show files that are on their way, and let a run wait for them. */

import { useEffect, useState } from "react";

import { readable } from "../runs/quantities";
import type { Parcel } from "./upload";

export interface ParcelProps {
  parcel: Parcel;
  onDrop: (parcel: Parcel) => void;
}

/** How far a file is; it can be called off. */
export function Underway({ parcel, onDrop }: ParcelProps) {
  const { file, share } = parcel;
  return (
    <div className="held">
      <Named name={file.name} facts={`${Math.round(100 * share)} % of ${readable(file.size)}`} />
      <span className="ways"><button type="button" className="quiet" onClick={() => onDrop(parcel)}>Cancel</button></span>
      <Track parcel={parcel} />
    </div>
  );
}

/** What a file is called, and beneath it what else is known. */
export function Named({ name, facts }: { name: string; facts: string }) {
  return (
    <span className="named">
      <span className="file-name" title={name}>{name}</span>
      <span className="note">{facts}</span>
    </span>
  );
}

/** A thin line that grows. */
export function Track({ parcel: { file, share } }: { parcel: Parcel }) {
  return (
    <div className="upload" role="progressbar" aria-label={`Uploading ${file.name}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * share)}>
      <div ref={(line) => void line?.style.setProperty("width", `${100 * share}%`)} />
    </div>
  );
}

/** Why a file did not arrive, and what to do. */
export function Failed({ parcel, onRetry, onDrop }: ParcelProps & { onRetry: (parcel: Parcel) => void }) {
  return (
    <div className="undelivered" role="alert">
      <p>{parcel.file.name} was not uploaded: {parcel.problem}</p>
      <div className="ways">
        <button type="button" className="quiet" onClick={() => onRetry(parcel)}>Try again</button>
        <button type="button" className="quiet" onClick={() => onDrop(parcel)}>Remove</button>
      </div>
    </div>
  );
}

/** Hold the form up until a field's files are there, and say whether it waits: it would run without them. */
export function useAwaited(id: string, parcels: Parcel[]): boolean {
  const [isHeldUp, setHeldUp] = useState(false);
  const isOpen = parcels.some(({ problem }) => !problem);
  const hasFailed = parcels.some(({ problem }) => problem);
  useEffect(() => {
    const form = (document.getElementById(id) as HTMLInputElement).form;
    if (!isOpen || !form) return;
    const wait = (event: Event) => {
      event.preventDefault();
      event.stopPropagation();
      setHeldUp(true);
    };
    form.addEventListener("submit", wait, { capture: true });
    return () => form.removeEventListener("submit", wait, { capture: true });
  }, [id, isOpen]);
  useEffect(() => {
    if (isOpen || !isHeldUp) return;
    setHeldUp(false);
    if (!hasFailed) (document.getElementById(id) as HTMLInputElement).form?.requestSubmit();
  }, [id, isOpen, isHeldUp, hasFailed]);
  return isHeldUp;
}

/** Tell who has pressed Run why nothing runs yet. */
export function Awaited({ isHeldUp }: { isHeldUp: boolean }) {
  return <p className="note awaited" aria-live="polite">{isHeldUp && "It runs as soon as that is uploaded."}</p>;
}
