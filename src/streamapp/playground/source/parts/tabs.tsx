/** One of several things at a time, chosen by tabs. */

import { type KeyboardEvent, type ReactNode, useEffect, useRef } from "react";

const EDGE = 8; // pixels of the next tab

interface TabsProps {
  name: string;
  tabs: readonly string[];
  /** What a tab says, where that is not its own name, and what it says more when one rests on it. */
  said?: Record<string, { words: ReactNode; more: string }>;
  chosen: string;
  onChoose: (tab: string) => void;
  /** The id of the panel that they choose what stands in. */
  panel: string;
}

/** Tabs in a row; arrow keys, Home and End go from one to the other. */
export function Tabs({ name, tabs, said = {}, chosen, onChoose, panel }: TabsProps) {
  const row = useRef<HTMLDivElement>(null);
  const at = tabs.indexOf(chosen);
  useEffect(() => bringIn(row.current!, row.current!.children[at] as HTMLElement | undefined), [at]);
  const move = (event: KeyboardEvent) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    onChoose(tabs[to % tabs.length]!);
    (row.current!.children[to % tabs.length] as HTMLElement).focus();
  };
  return (
    <div role="tablist" aria-label={name} className="tabs" ref={row} onKeyDown={move}>
      {tabs.map((tab) => (
        <button key={tab} type="button" role="tab" id={tabId(panel, tab)} aria-selected={tab === chosen} aria-controls={panel}
          title={said[tab]?.more} tabIndex={tab === chosen ? 0 : -1} onClick={() => onChoose(tab)}>
          {said[tab]?.words ?? tab}
        </button>
      ))}
    </div>
  );
}

/** Scroll a row sideways as far as its part needs; `scrollIntoView` would scroll the page, too. */
function bringIn(row: HTMLElement, part: HTMLElement | undefined): void {
  if (!part) return;
  const { offsetLeft: first, offsetWidth: width } = part;
  row.scrollLeft = Math.min(Math.max(row.scrollLeft, first + width + EDGE - row.clientWidth), first - EDGE);
}

interface TabPanelProps {
  id: string;
  chosen: string;
  className?: string;
  children: ReactNode;
}

/** What the chosen tab holds. */
export function TabPanel({ id, chosen, className, children }: TabPanelProps) {
  return <div role="tabpanel" id={id} aria-labelledby={tabId(id, chosen)} tabIndex={0} className={className}>{children}</div>;
}

function tabId(panel: string, tab: string): string {
  return `${panel}${tab}`;
}
