/** Begin. */

import "./style.css";

import { createRoot } from "react-dom/client";

import { Page } from "./page";
import { applyTheme } from "./theme";

// The form's library writes data as JSON to compare and to check them; each BigInt has digits of its own there.
Object.assign(BigInt.prototype, {
  toJSON(this: bigint) {
    return (JSON as { rawJSON?: (text: string) => unknown }).rawJSON?.(String(this)) ?? Number(this);
  },
});
applyTheme();
createRoot(document.getElementById("page")!).render(<Page />);
