/** Dark, light, or as the system has it. */

import { useState } from "react";

const KEY = "streamapp:theme";
const THEMES = ["auto", "dark", "light"];

/** Put the chosen theme on the document; returns it. */
export function applyTheme(): string {
  const theme = localStorage.getItem(KEY) ?? "auto";
  document.documentElement.dataset.theme = theme;
  return theme;
}

/** The button "Theme", which goes to the next one. */
export function ThemeButton() {
  const [theme, setTheme] = useState(applyTheme);
  const next = () => {
    localStorage.setItem(KEY, THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]!);
    setTheme(applyTheme());
  };
  return <button type="button" onClick={next} title={`Theme: ${theme}`}>Theme</button>;
}
