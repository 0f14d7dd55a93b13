/** A button with a menu: arrow keys go through it, Escape and a click elsewhere close it. */

import { type KeyboardEvent, type ReactNode, useId, useRef, useState } from "react";

export interface Item {
  name: string;
  act: () => void;
}

interface MenuProps {
  name: string;
  items: Item[];
  /** What stands on the button. */
  children: ReactNode;
}

const GAP_PX = 4;

export function Menu({ name, items, children }: MenuProps) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const [isOpen, setOpen] = useState(false);
  const open = () => {
    const { style } = list.current!;
    const { top, right } = button.current!.getBoundingClientRect();
    list.current!.showPopover();
    const { width, height } = list.current!.getBoundingClientRect();
    style.setProperty("left", `${Math.max(GAP_PX, right - width)}px`);
    style.setProperty("top", `${Math.max(GAP_PX, top - height - GAP_PX)}px`);
    (list.current!.firstElementChild as HTMLElement).focus();
    addEventListener("scroll", () => list.current?.hidePopover(), { once: true, capture: true });
  };
  const move = (event: KeyboardEvent) => {
    const all = [...list.current!.children] as HTMLElement[];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Tab") list.current!.hidePopover();
    if (to === undefined) return;
    event.preventDefault();
    all[to % all.length]!.focus();
  };
  const choose = ({ act }: Item) => {
    list.current!.hidePopover();
    act();
  };
  return (
    <>
      <button ref={button} type="button" className="act" aria-haspopup="menu" aria-expanded={isOpen} aria-controls={id} title={name} onClick={() => (isOpen ? list.current!.hidePopover() : open())}>
        {children}
      </button>
      <div ref={list} id={id} popover="auto" role="menu" aria-label={name} className="menu" onKeyDown={move} onToggle={({ newState }) => setOpen(newState === "open")}>
        {items.map((item) => <button key={item.name} type="button" role="menuitem" tabIndex={-1} onClick={() => choose(item)}>{item.name}</button>)}
      </div>
    </>
  );
}
