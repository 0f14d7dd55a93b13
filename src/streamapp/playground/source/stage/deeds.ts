/** Do what leads on from a run that is shown: again, varied, compared, or with its result as the next input. */

import type { Send } from "../form/upload";
import type { Media } from "../runs/content";
import type { Desk } from "../runs/desk";
import type { Endpoint, Input } from "../runs/schema";
import type { ResultAction } from "../show/actions";
import { again, isRepeatable, varying } from "./again";
import type { Comparison } from "./comparison";
import type { Item } from "./menu";
import { lasting, lastingIn, type Made, madeBy, madeOf, type Use, usedIn, usesOf } from "./uses";

interface Means {
  desk: Desk;
  endpoint: Endpoint;
  endpoints: Endpoint[];
  comparison: Comparison;
  upload: Send;
  start: (endpoint: Endpoint, input: Input) => void;
}

export interface Deeds {
  /** Run it again as it was; undefined where it cannot be. */
  onAgain: (() => void) | undefined;
  /** Run it again with another seed; undefined where it has none. */
  onVary: (() => void) | undefined;
  /** The fields that the result can be put into. */
  uses: Item[];
  /** Whether it is compared with the one before; undefined where there is none. */
  isCompared: boolean | undefined;
  onCompare: () => void;
  /** Put an example into the form; what runs it has the focus then. */
  onExample: (input: Input) => void;
  /** What the viewers may do with the files that they show. */
  viewed: ResultAction;
}

export function deedsOf({ desk, endpoint, endpoints, comparison, upload, start }: Means): Deeds {
  const { run, lay } = desk;
  const isAgain = isRepeatable(run);
  const vary = isAgain ? varying(run) : undefined;
  const put = async (use: Use, given: Made) => {
    const value = given.kind === "text" ? given.text : await lasting(given.media, upload);
    lay(use.endpoint, (before) => usedIn(use, before, value));
    requestAnimationFrame(() => leadTo(`root_${use.field}`));
  };
  const usesFor = (given: Made) => usesOf(given, endpoints, endpoint);
  const made = run?.isOver ? madeBy(run) : undefined;
  return {
    onAgain: isAgain ? () => start(run.endpoint!, again(run)) : undefined,
    onVary: vary && (() => start(run!.endpoint!, vary())),
    uses: made ? usesFor(made).map((use) => ({ name: use.name, act: () => put(use, made) })) : [],
    isCompared: comparison.isPossible ? comparison.isOn : undefined,
    onCompare: comparison.toggle,
    onExample: async (given) => {
      const input = await lastingIn(endpoint, given, upload);
      lay(endpoint, () => input);
      document.querySelector<HTMLElement>(".actions > .main")?.focus();
    },
    viewed: {
      takes: (media: Media) => usesFor(madeOf(media)).length > 0,
      useAsInput: (media: Media) => void put(usesFor(madeOf(media))[0]!, madeOf(media)),
    },
  };
}

/** Lead to a field that something was put into. */
function leadTo(id: string): void {
  const field = document.getElementById(id);
  field?.scrollIntoView({ block: "nearest" });
  field?.focus({ preventScroll: true });
}
