/** Dark or light: as the system has it, until one is chosen. */

import { keep, recall } from "./runs/storage";

const KEY = "streamapp:theme";
let here: string | undefined; // where the browser keeps nothing

/** Put the chosen theme on the document. */
export function applyTheme(): void {
  document.documentElement.dataset.theme = chosen() ?? "";
}

/** The button "Theme", which goes to the other one. */
export function ThemeButton() {
  const change = () => {
    here = (chosen() ?? systems()) === "dark" ? "light" : "dark";
    keep("localStorage", KEY, here);
    applyTheme();
  };
  return <button type="button" aria-label="Theme" title="Dark or light" onClick={change}>◐</button>;
}

function chosen(): string | undefined {
  const text = here ?? recall("localStorage", KEY) ?? "";
  return ["dark", "light"].includes(text) ? text : undefined;
}

function systems(): string {
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
