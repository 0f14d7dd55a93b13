/** Copy what the page needs of the pinned package into `../dist`, as it is, and the licences of what is in it. */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const PACKAGE = join(import.meta.dirname, "node_modules/swagger-ui-dist");
const DIST = join(import.meta.dirname, "../dist");
const NEEDED = ["swagger-ui-bundle.js", "swagger-ui.css"];
const TEXTS = ["NOTICE", "LICENSE", "swagger-ui-bundle.js.LICENSE.txt"]; // the last is of what its bundle holds
const RULE = `\n\n${"-".repeat(80)}\n\n`;

const textOf = (name) => readFileSync(join(PACKAGE, name), "utf8").replaceAll("\r\n", "\n");
const { name, version, license } = JSON.parse(textOf("package.json"));

mkdirSync(DIST, { recursive: true });
for (const file of NEEDED) writeFileSync(join(DIST, file), readFileSync(join(PACKAGE, file)));
const head = `The page of the API holds ${name} ${version} (${license}), as it is.`;
writeFileSync(join(DIST, "LICENSES.txt"), [head, ...TEXTS.map((text) => textOf(text).trim())].join(RULE) + "\n");
