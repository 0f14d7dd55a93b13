/** The field of one file: an image, a sound, a video or any; its value is a URL. */

import type { WidgetProps } from "@rjsf/utils";
import { lazy, type ReactNode, Suspense, useState } from "react";

import { Guard } from "../parts/guard";
import { isOwn } from "../runs/content";
import type { MediaField } from "../runs/schema";
import { nameOf } from "../runs/sent";
import { choose, Drop } from "./drop";
import { familyOf, type Pixels, useHeld, useHolding, usePixels } from "./known";
import { factsOf, Look } from "./look";
import { Awaited, Failed, Named, Underway, useAwaited } from "./parcels";
import { useParcels } from "./upload";

const Painter = lazy(() => import("./mask"));

/** The widget of a media field. */
export function MediaInput({ id, schema, value, onChange }: WidgetProps) {
  const { media: kind, mask, isSent } = schema as MediaField;
  const url: string | undefined = typeof value === "string" ? value : value?.url;
  const { parcels, add, drop, retry } = useParcels(onChange);
  const parcel = parcels.at(-1);
  const [pixels, setPixels] = useState<Pixels>();
  const [isPainting, setPainting] = useState(false);
  const [note, setNote] = useState("");
  const image = useHeld(mask ? id.slice(0, -mask.name.length) + mask.on : "");
  const isPicture = kind === "image" && !mask;
  const isHeldUp = useAwaited(id, parcels);
  useHolding(id, url);

  const take = (files: File[]) => {
    parcels.forEach(drop);
    setPixels(undefined);
    setNote("");
    add(files);
  };
  const takeUrl = (given: string) => {
    parcels.forEach(drop);
    setNote("");
    onChange(given);
  };
  const remove = () => {
    onChange(undefined);
    setNote("");
    document.getElementById(id)!.focus();
  };
  const paint = () => {
    const why = !image ? "Choose the image first: the mask is painted on it." : isOwn(image) ? "" : ELSEWHERE;
    setNote(why);
    setPainting(!why);
  };
  const shown = parcel && !parcel.problem ? parcel.url : url;
  const painting = mask && <button type="button" className={shown ? "quiet" : undefined} onClick={paint}>Paint</button>;
  return (
    <>
      <Drop id={id} kind={kind} isAsking={!shown && !parcel} isWaiting={isPicture && !shown} hasCamera={isPicture} hasUrl={!isSent}
        words={mask && MASK_WORDS} tools={!shown && !parcel && painting} onFiles={take} onUrl={takeUrl}>
        {shown && (mask && image && isOwn(shown) && isOwn(image) ? <Masked image={image} mask={shown} />
          : <Look url={shown} kind={parcel ? familyOf(parcel.file) : kind} onPixels={setPixels} />)}
        {parcel?.problem ? <Failed parcel={parcel} onRetry={retry} onDrop={drop} />
          : parcel ? <Underway parcel={parcel} onDrop={drop} />
            : url && <Held id={id} url={url} pixels={pixels} tools={painting} onRemove={remove} />}
      </Drop>
      <p className="wrong" aria-live="polite">{note}</p>
      <Awaited isHeldUp={isHeldUp} />
      {isPainting && (
        <Guard>
          <Suspense fallback={null}>
            <Painter image={image!} mask={url && isOwn(url) ? url : undefined} onDone={(file) => take([file])} onClose={() => setPainting(false)} />
          </Suspense>
        </Guard>
      )}
    </>
  );
}

const MASK_WORDS = "Paint it on the image, or choose a file";
const ELSEWHERE = "The image is on another site, where this page cannot paint. Save it, then drop it into its field.";

interface HeldProps {
  id: string;
  url: string;
  pixels: Pixels | undefined;
  tools: ReactNode;
  onRemove: () => void;
}

/** What a file is called, how large it is, and what can be done with it. */
function Held({ id, url, pixels, tools, onRemove }: HeldProps) {
  return (
    <div className="held">
      <Named name={nameOf(url)} facts={factsOf(url, pixels)} />
      <span className="ways">
        {tools}
        <button type="button" className="quiet" onClick={() => choose(id)}>Replace</button>
        <button type="button" className="quiet" onClick={onRemove}>Remove</button>
      </span>
    </div>
  );
}

/** The image, and over it what is masked. */
function Masked({ image, mask }: { image: string; mask: string }) {
  const [size, other] = [usePixels(image), usePixels(mask)];
  const differs = size && other && String(size) !== String(other);
  return (
    <>
      <div className="look masked">
        <img src={image} alt="" draggable={false} />
        <div role="img" aria-label="chosen" ref={(veil) => void veil?.style.setProperty("mask-image", `url(${JSON.stringify(mask)})`)} />
      </div>
      {differs && <p className="wrong">The mask has {other.join(" × ")} pixels, the image {size.join(" × ")}. Paint it anew.</p>}
    </>
  );
}
