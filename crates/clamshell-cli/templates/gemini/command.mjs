// Gemini CLI. GEMINI_API_KEY is its key; GOOGLE_GEMINI_BASE_URL another address of the model, MODEL its name.

import { mkdirSync, writeFileSync } from "node:fs";

const program = `${import.meta.dirname}/node_modules/.bin/gemini`;

export function prepare(home, environment) {
  const settings = {
    security: { auth: { selectedType: "gemini-api-key" }, folderTrust: { enabled: false } },
    privacy: { usageStatisticsEnabled: false },
    telemetry: { enabled: false },
    general: { disableAutoUpdate: true },
  };
  mkdirSync(`${home}/.gemini`, { recursive: true });
  writeFileSync(`${home}/.gemini/settings.json`, JSON.stringify(settings));
}

export function command(prompt, workspace) {
  // The sandbox is what keeps the agent in: it need not ask before it acts.
  const model = process.env.MODEL ? ["-m", process.env.MODEL] : [];
  return { argv: [program, ...model, "--skip-trust", "--yolo", "-p", prompt] };
}
