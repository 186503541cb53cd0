/**
 * `cargo xtask bench console`: the console's page in Chromium against a bare relay between a PTY and xterm.js
 * (terminado), in turn in one run, as ratios: `node bench/run.mjs PROGRAM [GROUP...]`.
 *
 * The peer comes from scripts/install-test-clients; the page is that of scripts/build-web which PROGRAM carries.
 */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { bulk } from "./bulk";
import { echo } from "./echo";
import { paint, size } from "./paint";
import { say } from "./samples";
import { type Stage, setUp } from "./stage";
import { watchers } from "./watchers";

const GROUPS: Readonly<Record<string, (stage: Stage) => Promise<void>>> = {
  size,
  paint,
  echo,
  bulk,
  watchers,
};

async function main(program: string, wanted: readonly string[]): Promise<number> {
  const unknown = wanted.find((name) => GROUPS[name] === undefined);
  if (unknown !== undefined) {
    say(`no group ${unknown}; there are: ${Object.keys(GROUPS).join(" ")}`);
    return 2;
  }
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const clients = process.env["CLAMSHELL_TEST_CLIENTS"] ?? join(cache, "clamshell/clients");
  if (!existsSync(join(clients, "terminado/python/bin/python"))) {
    say(`the peer is not in ${clients}; scripts/install-test-clients installs it`);
    return 1;
  }
  say("# Clamshell console");
  for (const [name, group] of Object.entries(GROUPS)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    // Each has servers and a browser of its own, so that none finds what another left behind.
    const stage = await setUp(program, clients);
    const stop = () => void stage.end().finally(() => process.exit(1));
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, stop);
    try {
      await group(stage);
    } finally {
      for (const signal of ["SIGTERM", "SIGINT"] as const) process.off(signal, stop);
      await stage.end();
    }
  }
  return 0;
}

const [program, ...wanted] = process.argv.slice(2);
if (program === undefined) {
  say("usage: node bench/run.mjs PROGRAM [GROUP...]");
  process.exitCode = 2;
} else {
  process.exitCode = await main(program, wanted);
}
