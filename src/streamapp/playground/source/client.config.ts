/** Build the JavaScript client into `../dist/client.js`: one module for the pages of apps. The playground bundles its own. */

import { join } from "node:path";
import { defineConfig } from "vite";

const SOURCE = import.meta.dirname;

export default defineConfig({
  build: {
    outDir: join(SOURCE, "../dist"),
    emptyOutDir: false, // what `vite.config.ts` has built is there
    target: "es2022",
    modulePreload: false,
    rolldownOptions: {
      input: join(SOURCE, "../../../../client_sdk/js/src/index.ts"),
      preserveEntrySignatures: "strict",
      output: { entryFileNames: "client.js", codeSplitting: false, postBanner: "/*! streamapp-client, Apache-2.0 */" },
    },
  },
});
