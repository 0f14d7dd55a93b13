/** Code that makes the same call from elsewhere, to be copied. */

import { useId, useState } from "react";

import { CopyButton } from "../parts/copy";
import { TabPanel, Tabs } from "../parts/tabs";
import type { Input } from "../runs/schema";
import { keep, recall } from "../runs/storage";
import { callOf, type Target } from "./call";
import { Coloured } from "./coloured";
import { LANGUAGES } from "./languages";
import { shortened } from "./literals";

const KEPT = "streamapp:language";

/** The code in each language in which the endpoint can be called, one at a time; which one is remembered. */
export function Code({ input, ...target }: Target & { input: Input }) {
  const id = useId();
  const [chosen, setChosen] = useState(() => recall("localStorage", KEPT));
  const call = callOf(target, shortened(input));
  const able = LANGUAGES.filter(({ write }) => write(call) !== undefined);
  const { name, write, install, isShell } = able.find((language) => language.name === chosen) ?? able[0]!;
  const choose = (language: string) => {
    setChosen(language);
    keep("localStorage", KEPT, language);
  };
  const code = write(call)!;
  return (
    <div className="code">
      <Tabs name="Language" tabs={able.map((language) => language.name)} chosen={name} onChoose={choose} panel={id} />
      <TabPanel id={id} chosen={name}>
        <CopyButton name="Copy" text={() => write(callOf(target, input))!} />
        <Needs install={install?.(call)} asksKey={code.includes("STREAMAPP_API_KEY")} />
        <pre tabIndex={0}><code><Coloured code={code} isShell={isShell} /></code></pre>
      </TabPanel>
    </div>
  );
}

/** What has to be there before the code runs; it is no part of what is copied. */
function Needs({ install, asksKey }: { install: string | undefined; asksKey: boolean }) {
  if (!install && !asksKey) return null;
  return (
    <div className="needs">
      {install && <code>{install}</code>}
      {asksKey && <span>The key is read from <code>STREAMAPP_API_KEY</code>.</span>}
    </div>
  );
}
