// opencode. OPENAI_API_KEY is its key; OPENAI_BASE_URL the address of a model (with /v1), MODEL its name.

import { writeFileSync } from "node:fs";

const program = `${import.meta.dirname}/node_modules/.bin/opencode`;

export function prepare(home, environment) {
  // The sandbox is what keeps the agent in: it need not ask before it acts.
  const config = { autoupdate: false, permission: "allow" };
  const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey, MODEL: model = "model" } = process.env;
  if (baseURL) {
    config.provider = {
      endpoint: {
        npm: "@ai-sdk/openai-compatible",
        name: "endpoint",
        options: { baseURL, apiKey },
        models: { [model]: { name: model } },
      },
    };
    config.model = `endpoint/${model}`;
  }
  writeFileSync(`${home}/opencode.json`, JSON.stringify(config));
  Object.assign(environment, { OPENCODE_CONFIG: `${home}/opencode.json`, OPENCODE_DISABLE_AUTOUPDATE: "1" });
}

export function command(prompt, workspace) {
  return { argv: [program, "run", prompt] };
}
