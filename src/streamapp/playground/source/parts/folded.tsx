/** Fold what is long. */

import { type ReactNode, useId, useState } from "react";

interface FoldedProps {
  isLong: boolean;
  children: ReactNode;
}

/** A text of which only the beginning is shown where it is long. */
export function Folded({ isLong, children }: FoldedProps) {
  const id = useId();
  const [isOpen, setOpen] = useState(false);
  if (!isLong) return children;
  return (
    <>
      <div id={id} className={isOpen ? undefined : "folded"}>{children}</div>
      <button type="button" className="quiet" aria-expanded={isOpen} aria-controls={id} onClick={() => setOpen(!isOpen)}>
        {isOpen ? "Show less" : "Show all"}
      </button>
    </>
  );
}
