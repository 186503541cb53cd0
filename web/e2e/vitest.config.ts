/** Tests of the whole: the real server with real sandboxes, and the page in a real browser. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["e2e/**/*.test.ts"],
    environment: "node",
    globalSetup: ["e2e/lacking.ts"],
    reporters: ["verbose"],
    // A browser, a server and a terminal's worth of output are enough for a machine at a time.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
