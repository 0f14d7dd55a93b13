/** Dark or light: as the system has it, until one is chosen. */

import { keep, recall } from "./storage";

const KEY = "streamapp:theme";

/** Put the chosen theme on the document. */
export function applyTheme(): void {
  document.documentElement.dataset.theme = chosen() ?? "";
}

/** The button "Theme", which goes to the other one. */
export function ThemeButton() {
  const change = () => {
    const isDark = (chosen() ?? systems()) === "dark";
    keep("localStorage", KEY, isDark ? "light" : "dark");
    applyTheme();
  };
  return <button type="button" aria-label="Theme" title="Dark or light" onClick={change}>◐</button>;
}

function chosen(): string | null {
  return recall("localStorage", KEY);
}

function systems(): string {
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
