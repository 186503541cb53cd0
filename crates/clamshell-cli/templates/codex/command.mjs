// Codex. OPENAI_API_KEY is its key; OPENAI_BASE_URL another address of the model (with /v1), MODEL its name.

const program = `${import.meta.dirname}/node_modules/.bin/codex`;

export function prepare(home, environment) {}

export function command(prompt, workspace) {
  // The sandbox is what keeps the agent in: it need not ask before it acts.
  const argv = [program, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"];
  const url = process.env.OPENAI_BASE_URL;
  if (url) {
    const provider = `{name="endpoint",base_url=${JSON.stringify(url)},env_key="OPENAI_API_KEY",wire_api="responses"}`;
    argv.push("-c", "model_provider=endpoint", "-c", `model_providers.endpoint=${provider}`);
  }
  if (process.env.MODEL) argv.push("-m", process.env.MODEL);
  argv.push("-");
  return { argv, input: prompt };
}
