/** Runs the measurements, which are written in TypeScript: `node bench/run.mjs PROGRAM [GROUP...]`. */
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

await runnerImport(fileURLToPath(new URL("./console.ts", import.meta.url)), { configFile: false });
