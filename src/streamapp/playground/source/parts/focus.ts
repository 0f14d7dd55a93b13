/** Keep the focus where one is. */

import { useEffect } from "react";

const PLACES = "section, main";

/** Keep the focus about where it is when what had it goes away: the keyboard would begin at the top of the page. */
export function useKeptFocus(): void {
  useEffect(() => {
    let held: HTMLElement | undefined;
    let around: HTMLElement[] = [];
    const note = ({ target }: FocusEvent) => {
      held = target as HTMLElement;
      around = [];
      for (let place = held.closest<HTMLElement>(PLACES); place; place = place.parentElement!.closest<HTMLElement>(PLACES)) around.push(place);
    };
    const look = () => {
      if (!held || held.isConnected || document.activeElement !== document.body) return;
      const place = around.find((each) => each.isConnected);
      if (place) place.tabIndex = -1;
      place?.focus({ preventScroll: true });
    };
    const seen = new MutationObserver(look);
    seen.observe(document.body, { childList: true, subtree: true });
    document.addEventListener("focusin", note);
    return () => {
      seen.disconnect();
      document.removeEventListener("focusin", note);
    };
  }, []);
}
