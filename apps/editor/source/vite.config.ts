/** Build the page into `../page`, and write down from which sources, so that a test can tell when it is stale, and by whom. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

import { licenses } from "../../../src/streamapp/playground/source/licenses.ts";

const SOURCE = import.meta.dirname;

/** Write `sources.json`: the SHA-256 of each file that the page is built from. */
function sources(): Plugin {
  return {
    name: "sources",
    generateBundle() {
      const names = readdirSync(SOURCE, { withFileTypes: true }).flatMap((entry) => (entry.isFile() ? entry.name : [])).sort();
      const hashes = names.map((name) => [name, createHash("sha256").update(readFileSync(join(SOURCE, name))).digest("hex")]);
      this.emitFile({ type: "asset", fileName: "sources.json", source: JSON.stringify(Object.fromEntries(hashes), null, 1) + "\n" });
    },
  };
}

export default defineConfig({
  base: "./", // the page is below any prefix
  build: {
    outDir: join(SOURCE, "../page"),
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  plugins: [sources(), licenses(SOURCE)],
});
