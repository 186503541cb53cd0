/** Runs a script of this folder that is written in TypeScript: `node e2e/run.mjs screenshots URL`. */
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const [name = "", ...rest] = process.argv.slice(2);
process.argv.splice(2, process.argv.length, ...rest);
await runnerImport(fileURLToPath(new URL(`./${name}.ts`, import.meta.url)), { configFile: false });
