/** Build the page into `../dist`, and write down from which sources, so that a test can tell when it is stale, and by whom. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { defineConfig, type Plugin } from "vite";

import { licenses } from "./licenses.ts";

const SOURCE = import.meta.dirname;
const ROOT = join(SOURCE, "../../../..");
const SDK = join(ROOT, "client_sdk/js/src");
const DIST = join(SOURCE, "../dist");

/** Write `sources.json`: the SHA-256 of each file that the page is built from, by its path in the repository. */
function sources(): Plugin {
  const hashOf = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
  return {
    name: "sources",
    generateBundle() {
      const paths = [SOURCE, SDK].flatMap((folder) =>
        readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => join(folder, name)),
      );
      const hashes = paths.map((path) => [relative(ROOT, path), hashOf(path)] as const).sort(([a], [b]) => (a < b ? -1 : 1));
      const source = JSON.stringify(Object.fromEntries(hashes), null, 1) + "\n";
      this.emitFile({ type: "asset", fileName: "sources.json", source });
    },
  };
}

export default defineConfig({
  base: "./",
  resolve: { alias: { "streamapp-client": join(SDK, "index.ts") } },
  build: {
    outDir: DIST,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the page's policy allows no data: but for images
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700, // kB before gzip; a test holds what is sent to 250
    rolldownOptions: { checks: { moduleLevelDirective: false } },
  },
  // The page is at /playground, without a slash at its end; what it loads is below /playground/.
  experimental: {
    renderBuiltUrl: (name, { hostType }) => (hostType === "html" ? `playground/${name}` : { relative: true }),
  },
  plugins: [sources(), licenses(SOURCE)],
});
