/** The signs on buttons: lines of one width, in the colour of the words around them. */

import type { MouseEventHandler } from "react";

const PATHS = {
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M8.5 5.5v13M15.5 5.5v13",
  loud: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4.5 4.5 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11",
  mute: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM16 9.5l5 5M21 9.5l-5 5",
  download: "M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 19.5h14",
  zoom: "M14 5h5v5M10 19H5v-5M19 5l-5.5 5.5M5 19l5.5-5.5",
  copy: "M9 9h10v10H9zM15 9V5H5v10h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  input: "M4 5v14M20 12H8.5M13 7l-5 5 5 5",
  close: "M6 6l12 12M18 6L6 18",
  before: "M14.5 5.5L8 12l6.5 6.5",
  after: "M9.5 5.5L16 12l-6.5 6.5",
  file: "M6.5 3.5h7l4.5 4.5v12.5h-11.5zM13.5 3.5v4.5h4.5",
  film: "M4 5.5h16v13H4zM8 5.5v13M16 5.5v13M4 10h4M4 14h4M16 10h4M16 14h4",
  solid: "M12 3.5l7.5 4.25v8.5L12 20.5l-7.5-4.25v-8.5zM4.5 7.75L12 12l7.5-4.25M12 12v8.5",
  rise: "M7.5 14l4.5-4.5 4.5 4.5",
  fall: "M7.5 10l4.5 4.5 4.5-4.5",
  link: "M10 14L19 5M13.5 5H19v5.5M16.5 13.5V19H5V7.5h5.5",
  again: "M19 12a7 7 0 1 1-2.05-4.95L19 9M19 4.5V9h-4.5",
  dice: "M6.5 4.5h11a2 2 0 0 1 2 2v11a2 2 0 0 1-2 2h-11a2 2 0 0 1-2-2v-11a2 2 0 0 1 2-2zM8.75 8.75h.01M15.25 8.75h.01M12 12h.01M8.75 15.25h.01M15.25 15.25h.01",
  compare: "M10 5H4.5v14H10M14 5h5.5v14H14M12 3v18",
  share: "M12 15V4M7.5 8L12 3.5 16.5 8M7 11.5H5v8.5h14v-8.5h-2",
  watch: "M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.7l1-1",
  plus: "M12 5v14M5 12h14",
  up: "M12 19.5v-15M5.5 11L12 4.5l6.5 6.5",
  down: "M12 4.5v15M5.5 13l6.5 6.5 6.5-6.5",
  picture: "M3.5 5h17v14h-17zM4.25 18.25L9 12.75l4.5 4.5 2.25-2.25 4.25 4.25M15.5 9.5h.01",
  stop: "M8 8h8v8H8z",
  bring: "M12 15V4M7.5 8L12 3.5 16.5 8M4 14.5v3A2.5 2.5 0 0 0 6.5 20h11a2.5 2.5 0 0 0 2.5-2.5v-3",
  trouble: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 8v4.5M12 16h.01",
  fit: "M4 8.5V4h4.5M15.5 4H20v4.5M20 15.5V20h-4.5M8.5 20H4v-4.5M9 9h6v6H9z",
  upright: "M4.5 20h15M12 16.5v-13M7.25 8.25L12 3.5l4.75 4.75",
  camera: "M3.5 7.5H7L9 5h6l2 2.5h3.5v11.5h-17zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  lost: "M9 3v4M15 3v4M6 7h12v4a6 6 0 0 1-12 0zM12 17v4",
} as const;

export type Sign = keyof typeof PATHS;

/** A sign that says nothing by itself: what it stands on has a name. */
export function Icon({ sign }: { sign: Sign }) {
  return <svg viewBox="0 0 24 24" className={`sign sign-${sign}`} aria-hidden="true"><path d={PATHS[sign]} /></svg>;
}

interface IconButtonProps {
  sign: Sign;
  name: string;
  /** What it says when one points at it, where that is not all of its name. */
  title?: string;
  id?: string | undefined;
  isPressed?: boolean;
  /** Whether there is nothing to do for it now; it keeps the focus, which a disabled button would lose. */
  isOff?: boolean;
  className?: string;
  onClick: MouseEventHandler<HTMLButtonElement>;
}

export function IconButton({ sign, name, title = name, id, isPressed, isOff = false, className = "", onClick }: IconButtonProps) {
  return (
    <button type="button" id={id} className={`icon ${className}`} aria-label={name} title={title} aria-pressed={isPressed} aria-disabled={isOff || undefined}
      onClick={(event) => isOff || onClick(event)}>
      <Icon sign={sign} />
    </button>
  );
}
