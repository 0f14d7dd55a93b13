/** Keep texts in the browser, where it lets us: with cookies blocked already looking throws. */

type Place = "localStorage" | "sessionStorage";

/** Return what was kept; null when nothing was, or nothing may be. */
export function recall(place: Place, key: string): string | null {
  try {
    return window[place].getItem(key);
  } catch {
    return null;
  }
}

/** Keep a text; false when there is no room, or nothing may be kept. */
export function keep(place: Place, key: string, text: string): boolean {
  try {
    window[place].setItem(key, text);
    return true;
  } catch {
    return false;
  }
}
