/** Who is in a document, as each says of itself: a name, and a colour out of a few, each of which can be read on the page. */

import type { Awareness } from "y-protocols/awareness";

/** What a person is shown in; the style has each by its number, as the page's policy lets no script write styles. */
export const COLOURS = [
  { name: "Blue", hex: "#3557c4" },
  { name: "Green", hex: "#1f7a4d" },
  { name: "Red", hex: "#b3363f" },
  { name: "Violet", hex: "#7a45b8" },
  { name: "Brown", hex: "#8a5a1c" },
  { name: "Teal", hex: "#14707f" },
] as const;

export interface Person {
  client: number;
  name: string;
  /** Which of `COLOURS`. */
  colour: number;
  isSelf: boolean;
}

/** Return who is there, first oneself. */
export function people(awareness: Awareness): Person[] {
  const all = [...awareness.getStates()].flatMap(([client, state]) => (isObject(state.user) ? person(client, state.user, awareness) : []));
  return all.sort((a, b) => Number(b.isSelf) - Number(a.isSelf) || a.client - b.client);
}

/** Read what a client says of itself, which may be anything. */
export function person(client: number, user: Record<string, unknown>, awareness: Awareness): Person {
  const name = typeof user.name === "string" && user.name.trim() ? user.name.trim().slice(0, 40) : "Somebody";
  const known = COLOURS.findIndex(({ hex }) => hex === user.color);
  return { client, name, colour: known < 0 ? client % COLOURS.length : known, isSelf: client === awareness.clientID };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
