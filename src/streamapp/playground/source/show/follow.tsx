/** A place that scrolls by itself, and stays at the end of what grows in it while the reader is there. */

import { type ReactNode, useEffect, useRef, useState } from "react";

import { Icon } from "../parts/icon";

const NEAR_PX = 24; // of the end is at the end

interface FollowProps {
  label: string;
  role: "group" | "log";
  /** Begin at the end, and go there whenever this changes; undefined begins at the top. */
  of: unknown;
  children: ReactNode;
}

/** Whoever scrolls up stays there, and is offered the way back. */
export function Follow({ label, role, of, children }: FollowProps) {
  const place = useRef<HTMLDivElement>(null);
  const follows = useRef(of !== undefined);
  const lastTop = useRef(0);
  const [isAway, setAway] = useState(false);
  const [isFull, setFull] = useState(false);

  const goToEnd = () => {
    const { scrollHeight } = place.current!;
    follows.current = true;
    place.current!.scrollTop = scrollHeight;
  };
  const look = () => {
    const { scrollTop, scrollHeight, clientHeight } = place.current!;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    // More may have come since this page itself scrolled: only who goes up leaves.
    if (isAtEnd) follows.current = true;
    else if (scrollTop < lastTop.current) follows.current = false;
    lastTop.current = scrollTop;
    place.current!.classList.toggle("cut-above", scrollTop > 1);
    place.current!.classList.toggle("cut-below", !isAtEnd);
    setFull(scrollHeight > clientHeight + 1);
    setAway(!isAtEnd && !follows.current);
  };
  useEffect(() => {
    if (of !== undefined) goToEnd();
  }, [of]);
  useEffect(() => {
    const watch = new ResizeObserver(() => {
      if (follows.current) goToEnd();
      look();
    });
    watch.observe(place.current!);
    watch.observe(place.current!.firstElementChild!);
    return () => watch.disconnect();
  }, []);
  return (
    <div className="follow">
      <div ref={place} className="followed" role={role} aria-label={label} tabIndex={isFull ? 0 : undefined} onScroll={look}>
        <div>{children}</div>
      </div>
      {isAway && <button type="button" className="to-end" aria-label="To the end" title="To the end" onClick={goToEnd}><Icon sign="down" /></button>}
    </div>
  );
}
