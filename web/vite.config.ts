import { defineConfig } from "vite";

// The server serves the page below /console; a file's name changes with its content, so it may be kept for ever.
export default defineConfig({
  base: "/console/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    assetsDir: "assets",
    // A data: URL in a style sheet or script would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    target: "es2022",
    // A request costs more than the bytes that a view does not need: what every view takes is one file, a terminal another.
    cssCodeSplit: false,
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            {
              name: "index",
              test: /\/src\/(main|app|router|api|components)|\/(preact|@preact)\//,
              priority: 2,
            },
            {
              name: "terminal",
              test: /\/src\/terminal\/|\/@xterm\/(xterm|addon-(fit|unicode-graphemes|web-links))\//,
              priority: 1,
            },
          ],
        },
      },
    },
  },
});
