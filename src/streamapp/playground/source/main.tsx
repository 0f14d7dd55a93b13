/** Begin. */

import "./style.css";
import "./parts/icon.css";
import "./form/form.css";
import "./form/files.css";
import "./form/messages.css";
import "./stage/stage.css";
import "./show/text.css";
import "./stage/chat.css";
import "./show/media.css";
import "./show/sound.css";
import "./show/table.css";
import "./panels/panels.css";
import "./panels/code.css";
import "./panels/timeline.css";
import "./panels/tree.css";

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
// A Guard says it where it happens: it is the app's, not the page's.
createRoot(document.getElementById("page")!, { onCaughtError: (error) => console.warn(error) }).render(<Page />);
