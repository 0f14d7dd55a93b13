/** How the text looks. It stands in a shadow tree, where CodeMirror's styles need no element, which the policy forbids. */

import { EditorView } from "@codemirror/view";

import { COLOURS } from "./people.ts";

const persons = COLOURS.flatMap((_, number) => [[`.person-${number}`, { "--person": `var(--person-${number})` }]]);

export const theme = EditorView.theme({
  "&": { height: "100%", fontSize: "1.0625rem", color: "var(--ink)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "inherit", lineHeight: "1.75", overflow: "auto" },
  ".cm-content": { maxWidth: "44rem", margin: "0 auto", padding: "32px 24px", caretColor: "var(--ink)", boxSizing: "border-box" },
  ".cm-line": { padding: "0" },
  ".cm-placeholder": { color: "var(--faint)" },
  ".caret": { position: "relative", borderLeft: "2px solid var(--person)", marginLeft: "-1px", marginRight: "-1px" },
  ".caret > span": {
    position: "absolute", top: "-1.15em", left: "-2px", padding: "0 6px", borderRadius: "4px 4px 4px 0", background: "var(--person)",
    color: "var(--on-person)", fontSize: "0.6875rem", lineHeight: "1.25rem", fontWeight: "600", whiteSpace: "nowrap", pointerEvents: "none",
    userSelect: "none", maxWidth: "12rem", overflow: "hidden", textOverflow: "ellipsis", animation: "leave 1s 4s both",
  },
  ".caret:hover > span": { animation: "none" },
  "@keyframes leave": { to: { opacity: 0 } },
  ".selected": { background: "color-mix(in srgb, var(--person) 24%, transparent)" },
  ...Object.fromEntries(persons),
});
