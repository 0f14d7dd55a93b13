/** Begin. */

import "./style.css";

import { createRoot } from "react-dom/client";

import { Page } from "./page";
import { applyTheme } from "./theme";

applyTheme();
createRoot(document.getElementById("page")!).render(<Page />);
