/** Build the page into `../dist`, and write down from which sources, so that a test can tell when it is stale, and by whom. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
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
      const filesIn = (folder: string) => readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
      const paths = [SOURCE, SDK].flatMap((folder) => filesIn(folder).map(({ parentPath, name }) => join(parentPath, name)))
        .filter((path) => !path.includes("/node_modules/"));
      const hashes = paths.map((path) => [relative(ROOT, path), hashOf(path)] as const).sort(([a], [b]) => (a < b ? -1 : 1));
      const source = JSON.stringify(Object.fromEntries(hashes), null, 1) + "\n";
      this.emitFile({ type: "asset", fileName: "sources.json", source });
    },
  };
}

// What the form's library brings, and forms here never ask for: it stands under their own, or needs a `uiSchema`.
const SPARED = [
  "LayoutGridField", "LayoutHeaderField", "LayoutMultiSchemaField",
  "ArrayFieldItemTemplate", "ErrorList", "GridTemplate", "MultiSchemaFieldTemplate", "ObjectFieldTemplate", "OptionalDataControlsTemplate",
  "TitleField", "WrapIfAdditionalTemplate",
  "AltDateTimeWidget", "AltDateWidget", "CheckboxWidget", "FileWidget", "RadioWidget", "RangeWidget", "RatingWidget", "TextareaWidget", "TextWidget",
  "UpDownWidget", "URLWidget",
];
const NOTHING = "\0nothing";

/** Leave those out: seven kilobytes of what is sent. */
function spared(): Plugin {
  return {
    name: "spared",
    enforce: "pre",
    resolveId: (id, importer = "") => (importer.includes("@rjsf/core") && SPARED.includes(basename(id, ".js")) ? NOTHING : undefined),
    load: (id) => (id === NOTHING ? "export default undefined;" : undefined),
  };
}

export default defineConfig({
  base: "./",
  resolve: { alias: { "streamapp-client": join(SDK, "index.ts"), "fast-uri": join(SOURCE, "form/uri.ts") } },
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
  plugins: [spared(), sources(), licenses(SOURCE)],
});
