/** Show a film. */

import { useState } from "react";

import type { Media } from "../runs/content";
import { hear } from "../runs/heard";

const SHORT_S = 15; // up to which it is a moving picture: it begins by itself, silently, and again and again

/** One film, as large as there is room; the element stays while a preview is replaced. */
export function Film({ media, name }: { media: Media; name: string }) {
  const [ratio, setRatio] = useState(media.width && media.height ? media.width / media.height : 16 / 9);
  const [isBroken, setBroken] = useState(false);
  const begin = (film: HTMLVideoElement) => {
    if (film.videoWidth) setRatio(film.videoWidth / film.videoHeight);
    setBroken(false);
    film.loop = film.muted = film.duration <= SHORT_S;
    if (film.loop && !matchMedia("(prefers-reduced-motion: reduce)").matches) film.play().catch(() => {}); // it waits to be asked
  };
  const sound = (film: HTMLVideoElement) => film.paused || film.muted || hear(film);
  return (
    <>
      <video controls playsInline preload="metadata" src={shown(media.url)} aria-label={name} ref={(film) => void film?.style.setProperty("--ratio", String(ratio))}
        onLoadedMetadata={({ currentTarget }) => begin(currentTarget)} onError={() => setBroken(true)}
        onPlay={({ currentTarget }) => sound(currentTarget)} onVolumeChange={({ currentTarget }) => sound(currentTarget)} />
      {isBroken && <p className="note">The browser cannot play this film.</p>}
    </>
  );
}

/** Phones show no picture of a film before it is played, unless it is asked for a moment of it. */
function shown(url: string): string {
  return /^data:/i.test(url) ? url : `${url}#t=0.001`;
}
