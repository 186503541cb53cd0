/** What these tests need of the machine, and what it lacks. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository. */
export const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));

/** The browser. */
export const CHROMIUM = "/usr/bin/chromium";

const target = process.env["CARGO_TARGET_DIR"] ?? join(REPOSITORY, "target");

/** The server's program. */
export const PROGRAM = process.env["CLAMSHELL_PROGRAM"] ?? join(target, "debug/clamshell");

/** The scripted model of the repository. */
export const MODEL = process.env["CLAMSHELL_MODEL_PROGRAM"] ?? join(target, "debug/clamshell-model");

/** Where `scripts/install-test-clients` puts what tests need of others. */
export const CLIENTS = process.env["CLAMSHELL_TEST_CLIENTS"] ?? join(homedir(), ".cache/clamshell/clients");

/** Why no test can run here; `undefined` when they can. */
export const LACKING = lacking();

function lacking(): string | undefined {
  if (!existsSync(CHROMIUM)) return `${CHROMIUM} is not installed`;
  if (!existsSync(PROGRAM)) return `${PROGRAM} is not built`;
  if (!existsSync(join(REPOSITORY, "web/dist/index.html"))) return "the page is not built";
  return undefined;
}

/** Says why a test does not run, in the words that `scripts/test` looks for. */
export function skipped(what: string, reason: string): true {
  process.stdout.write(`skipped: ${what}: ${reason}\n`);
  return true;
}

/** Called once before all tests. */
export default function setup(): void {
  if (LACKING !== undefined) skipped("tests of the console in a browser", LACKING);
}
