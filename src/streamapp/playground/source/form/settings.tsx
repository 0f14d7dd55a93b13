/** "Additional settings": what of a form can be left alone, folded. */

import { getDefaultFormState, type RJSFSchema } from "@rjsf/utils";
import { createContext, type MouseEvent, type ReactNode, useContext, useEffect, useId, useMemo, useState } from "react";

import { Icon } from "../parts/icon";
import type { Fields } from "../runs/schema";
import { validator } from "../runs/validate";
import { type Arrangement, arrange, changesOf } from "./arrange";

export interface Settings extends Arrangement {
  isOpen: boolean;
  setOpen: (isOpen: boolean) => void;
  /** How many of the folded are not as they begin. */
  changes: number;
  reset: () => void;
}

/** Those of the form around. */
export const SettingsOf = createContext<Settings | undefined>(undefined);

/** What was left of a form when another endpoint was chosen. */
interface Kept {
  /** Undefined until it was opened, or closed. */
  isOpen?: boolean;
  /** What was written here last; another input comes from elsewhere. */
  input?: Fields;
}

const CONTROLS = "input, select, textarea, button";
const kept = new WeakMap<RJSFSchema, Kept>(); // for as long as the page is open

/** Keep whether the settings of a form are open; what comes with a link, and what is wrong, opens them. */
export function useSettings(schema: RJSFSchema, input: Fields, wrong: object, onChange: (input: Fields) => void) {
  const arrangement = useMemo(() => arrange(schema), [schema]);
  const presets = useMemo((): Fields => getDefaultFormState(validator, schema, {}, schema) ?? {}, [schema]);
  const own = keptOf(schema);
  const { folded } = arrangement;
  const changes = changesOf(schema, folded, input, presets);
  const isBrought = own.isOpen === undefined && own.input !== input && changes > 0;
  const isWrong = folded.some((name) => name in wrong);
  const [isOpen, setOpen] = useState(own.isOpen ?? isBrought);
  useEffect(() => {
    if (isBrought || isWrong) setOpen(true);
  }, [isBrought, isWrong]);

  const change = (given: Fields) => {
    own.input = given;
    onChange(given);
  };
  const settings: Settings = {
    ...arrangement, isOpen, changes,
    setOpen: (isNow) => setOpen((own.isOpen = isNow)),
    reset: () => change({ ...input, ...Object.fromEntries(folded.map((name) => [name, presets[name]])) }),
  };
  return { settings, change };
}

function keptOf(schema: RJSFSchema): Kept {
  if (!kept.has(schema)) kept.set(schema, {});
  return kept.get(schema)!;
}

/** The fold, around the fields that are in it; no `<details>`, whose summary could hold no second button. */
export function AdditionalSettings({ children }: { children: ReactNode }) {
  const { isOpen, setOpen, changes, reset } = useContext(SettingsOf)!;
  const id = useId();
  const begin = ({ currentTarget }: MouseEvent) => {
    (currentTarget.previousElementSibling as HTMLElement).focus(); // the button goes away
    reset();
  };
  return (
    <div className="settings">
      <div className="line">
        <button type="button" className="fold" aria-expanded={isOpen} aria-controls={id} onClick={() => setOpen(!isOpen)}>
          <Icon sign="after" />
          Additional settings
          {changes > 0 && <span className="changes">· {changes} changed</span>}
        </button>
        {changes > 0 && <button type="button" className="quiet" onClick={begin}>Reset</button>}
      </div>
      <div id={id} className="fields" hidden={!isOpen}>{children}</div>
    </div>
  );
}

/** Go to a field that is wrong, also where it is folded. */
export function leadTo(form: HTMLElement, path: string[], { setOpen }: Settings): void {
  const id = CSS.escape(["root", ...path].join("_"));
  const place = form.querySelector<HTMLElement>(`#${id}`) ?? form.querySelector<HTMLElement>(CONTROLS.replaceAll(/\w+/g, `$&[id^="${id}_"]`));
  const fold = place?.closest<HTMLElement>("[hidden]");
  if (fold) {
    fold.hidden = false; // at once: what is hidden takes no focus
    setOpen(true);
  }
  (place?.matches(CONTROLS) ? place : place?.querySelector<HTMLElement>(CONTROLS))?.focus();
}
