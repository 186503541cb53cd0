// Claude Code. ANTHROPIC_API_KEY is its key; ANTHROPIC_BASE_URL another address of the model, ANTHROPIC_MODEL its name.

import { existsSync } from "node:fs";

const program = `${import.meta.dirname}/node_modules/.bin/claude`;

export function prepare(home, environment) {
  // The sandbox is what keeps the agent in: it need not ask before it acts.
  Object.assign(environment, {
    IS_SANDBOX: "1",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    DISABLE_AUTOUPDATER: "1",
  });
}

export function command(prompt, workspace) {
  const goesOn = existsSync(`${workspace}/.home/.claude/projects`);
  const argv = [program, "-p", "--dangerously-skip-permissions", ...(goesOn ? ["--continue"] : [])];
  return { argv, input: prompt };
}
