/** What can be done with a result beyond looking at it: the page around the viewers says. */

import { createContext } from "react";

import type { Media } from "../runs/content";

export interface ResultAction {
  /** Put a file into the form; undefined where no field takes any. */
  useAsInput?: (media: Media) => void;
  /** Whether a field takes this one; without it each does. */
  takes?: (media: Media) => boolean;
}

export const ResultActions = createContext<ResultAction>({});
