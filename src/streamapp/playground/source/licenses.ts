/** Write `LICENSES.txt`: the licence texts of all that is bundled, for the wheel and for whoever loads the page. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const TEXTS = /^(licen[cs]e|copying|notice)/i;
const PACKAGE = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/;
const TOOL = /^\0(vite|rolldown)\//; // what the tools add of themselves
const RULE = `\n\n${"-".repeat(80)}\n\n`;
const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

/** Make the file; a package whose text is not to be found ends the build. */
export function licenses(source: string): Plugin {
  return {
    name: "licenses",
    generateBundle(_, bundle) {
      const modules = Object.values(bundle).flatMap((part) => (part.type === "chunk" ? part.moduleIds : []));
      const folders = modules.flatMap((id) => TOOL.exec(id)?.[1] ?? PACKAGE.exec(id)?.[0] ?? []);
      const found = [...new Set(folders)].map((folder) => licenseOf(join(folder.includes("/") ? "" : join(source, "node_modules"), folder)));
      const head = "The page holds what is of this project, under its licence, and these packages.";
      this.emitFile({ type: "asset", fileName: "LICENSES.txt", source: [head, ...found.sort()].join(RULE) + "\n" });
    },
  };
}

function licenseOf(folder: string): string {
  const { name, version, license, author } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const texts = readdirSync(folder).filter((file) => TEXTS.test(file)).sort().map((file) => readFileSync(join(folder, file), "utf8"));
  if (!texts.length && license === "MIT" && author) texts.push(`Copyright (c) ${author.name ?? author}\n\n${MIT}`);
  if (!texts.length) throw new Error(`${name} ${version} has no text of its licence, ${license}; add it here`);
  const own = texts.join("\n\n").split("\n# Licenses of bundled dependencies")[0]!; // the rest is of the tool, not of what it adds
  return `${name} ${version} (${license})\n\n${own.replaceAll("\r\n", "\n").trim()}`;
}
