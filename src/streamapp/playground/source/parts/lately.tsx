/** Load what is not seen at first when the page has nothing else to do, or, at the latest, when it is to be shown. */

import { type ComponentType, useEffect, useState } from "react";

const AGAIN_MS = 1000;

/** Return a component that stands for one that is loaded later; while the server is gone it is tried again and again. */
export function lately<Props extends object>(load: () => Promise<ComponentType<Props>>): ComponentType<Props> {
  let loaded: ComponentType<Props> | undefined;
  const fetched = async () => (loaded ??= await load());
  atLeisure(() => void fetched().catch(() => {})); // it is tried again when it is needed
  return function Lately(props: Props) {
    const [View, show] = useState(() => loaded);
    useEffect(() => {
      if (View) return;
      let timer: ReturnType<typeof setTimeout>;
      let isCurrent = true;
      const attempt = async () => {
        const view = await fetched().catch(() => undefined);
        if (!isCurrent) return;
        if (view) show(() => view);
        else timer = setTimeout(attempt, AGAIN_MS);
      };
      attempt();
      return () => {
        isCurrent = false;
        clearTimeout(timer);
      };
    }, [View]);
    return View ? <View {...props} /> : null;
  };
}

function atLeisure(act: () => void): void {
  const begin = () => (globalThis.requestIdleCallback ?? setTimeout)(act); // Safari has none
  if (document.readyState === "complete") begin();
  else addEventListener("load", begin, { once: true });
}
