/** Small parts that several regions use. */

import { type ReactNode, useEffect, useState } from "react";
import type { StreamappError } from "streamapp-client";

interface RegionProps {
  name: string;
  /** What stands at the right of the heading. */
  tools?: ReactNode;
  children: ReactNode;
}

/** One panel of the page. */
export function Region({ name, tools, children }: RegionProps) {
  return (
    <section aria-label={name} className="region">
      <div className="line heading">
        <h2>{name}</h2>
        {tools}
      </div>
      {children}
    </section>
  );
}

interface MeterProps {
  label: string;
  value: number;
  max: number | undefined;
}

/** A progress bar; without `max` nobody knows how much is left. */
export function Meter({ label, value, max }: MeterProps) {
  return (
    <div role="progressbar" aria-label={label} aria-valuemin={0} aria-valuenow={value} aria-valuemax={max}>
      <div ref={(bar) => void bar?.style.setProperty("width", max ? `${Math.min(100, (100 * value) / max)}%` : "100%")} />
    </div>
  );
}

/** The traceback that an error has from a server that debugs. */
export function tracebackOf(error: Error): unknown {
  return (error as Partial<StreamappError>).data?.error?.traceback;
}

/** The traceback of a failure, where there is one, to be unfolded. */
export function Traceback({ text }: { text: unknown }) {
  if (typeof text !== "string") return null;
  return (
    <details>
      <summary>Traceback</summary>
      <pre tabIndex={0}>{text}</pre>
    </details>
  );
}

/** A button that copies a text, and says so. */
export function CopyButton({ name, text, onCopy }: { name: string; text: () => string; onCopy?: () => void }) {
  const [note, setNote] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setNote(""), 2000);
    return () => clearTimeout(timer);
  }, [note]);
  const copy = async () => {
    onCopy?.();
    setNote((await copied(text())) ? "copied" : "the browser does not let this page copy");
  };
  return (
    <span className="copy">
      <span className="note" aria-live="polite">{note}</span>
      <button type="button" onClick={copy}>{name}</button>
    </span>
  );
}

/** Copy also where there is no clipboard API: on pages without TLS, except the own machine's. */
async function copied(text: string): Promise<boolean> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  return isDone;
}

/** The time, again and again while it runs. */
export function useNow(isRunning: boolean, everyMs = 200): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    if (!isRunning) return;
    const timer = setInterval(() => setNow(performance.now()), everyMs);
    return () => clearInterval(timer);
  }, [isRunning, everyMs]);
  return now;
}
