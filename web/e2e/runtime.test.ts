/** A runtime from its making on the page to its end: made, called, given a terminal command, and deleted. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LACKING, skipped } from "./lacking";
import { Api } from "./server";
import { useStage } from "./stage";
import { Terminal } from "./terminal";
import { until } from "./until";

/** Generous, because test machines are shared. */
const PATIENCE_MS = 60_000;
const PASSWORD = "correct horse battery staple";
const SECRET = "never-on-the-page";

const AGENT = `
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Agent(BaseHTTPRequestHandler):
    def answer(self, text):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def do_GET(self):
        self.answer(b'{"status": "Healthy"}')
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(b'"The agent is here"')
ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
`;

/** The interpreters of AWS that this machine has. */
const python = [10, 11, 12, 13, 14].find((minor) => existsSync(`/usr/bin/python3.${minor}`));

const lacking = LACKING ?? missing();

function missing(): string | undefined {
  if (python !== undefined) return undefined;
  const reason = "/usr/bin has no Python of a runtime";
  skipped("runtimes made on the page", reason);
  return reason;
}

describe.skipIf(lacking)("a runtime on the page", () => {
  let bucket: string;
  beforeAll(() => {
    bucket = mkdtempSync(join(tmpdir(), "clamshell-code-"));
    writeFileSync(join(bucket, "agent.py"), AGENT);
    execFileSync(`/usr/bin/python3.${python}`, ["-m", "zipfile", "-c", "agent.zip", "agent.py"], {
      cwd: bucket,
    });
  });
  afterAll(() => rmSync(bucket, { recursive: true, force: true }));

  const stage = useStage({ configuration: () => `[buckets.code]\npath = ${JSON.stringify(bucket)}\n` });

  test("is made, called, given a terminal command with a secret, and deleted", {
    timeout: 300_000,
  }, async () => {
    const { server, api } = stage;
    const { page } = await stage.window();
    await page.goto(`${server.origin}/console/runtimes`);
    await page.getByRole("button", { name: "New runtime" }).click();
    await fill(page, "1 bad name", "s3://code/agent.zip");
    await page.getByRole("button", { name: "Create runtime" }).click();
    // The server's rule stands beside the field that breaks it.
    await page.locator("#field-name-about").getByRole("alert").waitFor();
    expect(await page.getByLabel("Name", { exact: true }).getAttribute("aria-invalid")).toBe("true");
    expect(await page.getByLabel("Zip").inputValue()).toBe("s3://code/agent.zip");
    await page.getByLabel("Name", { exact: true }).fill("by_hand");
    await page.getByRole("button", { name: "Create runtime" }).click();
    await page.getByRole("heading", { name: "by_hand" }).waitFor();
    // Nothing is asked for again: what becomes of it is pushed.
    await page.getByRole("status").getByText("READY", { exact: true }).waitFor({ timeout: PATIENCE_MS });

    await page.getByLabel("Prompt").fill("Are you there?");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator(".call-answer", { hasText: "The agent is here" }).waitFor({ timeout: PATIENCE_MS });

    server.runWith(SECRET, "secrets", "set", "KEY", "--from-file", "-");
    await page.getByRole("button", { name: "Edit terminal" }).click();
    const line = 'echo read-$(wc -c <"$CLAMSHELL_SECRETS/KEY")-bytes in $PWD; exec bash';
    await page.getByLabel("Command").fill(line);
    await page.getByRole("checkbox", { name: "KEY" }).check();
    await page.getByLabel("Folder").fill("workspace");
    await page.getByRole("button", { name: "Save" }).click();
    await page.locator("#field-workingDirectory-about").getByRole("alert").waitFor();
    await page.getByLabel("Folder").fill("/mnt/workspace");
    await page.getByRole("button", { name: "Save" }).click();
    await page
      .getByRole("region", { name: "Terminal and environment" })
      .getByText("KEY", { exact: true })
      .waitFor();
    expect(await page.content()).not.toContain(SECRET);

    // Whoever may only look sees what is set, and nothing to change it with.
    server.addUser("vic", "viewer", PASSWORD);
    const vic = await Api.login(server.origin, { userName: "vic", password: PASSWORD });
    const viewer = (await stage.window(vic)).page;
    await viewer.goto(page.url());
    await viewer
      .getByRole("region", { name: "Terminal and environment" })
      .getByText("KEY", { exact: true })
      .waitFor();
    for (const name of ["Edit terminal", "Delete", "Send"]) {
      expect(await viewer.getByRole("button", { name }).count(), name).toBe(0);
    }
    await viewer.getByRole("link", { name: "Runtimes" }).first().click();
    await viewer.getByRole("link", { name: "by_hand" }).waitFor();
    expect(await viewer.getByRole("button", { name: "New runtime" }).count()).toBe(0);

    const runtime = page.url();
    await page.getByRole("link", { name: "New terminal" }).click();
    const terminal = new Terminal(page, api, "", "");
    await terminal.is("live", PATIENCE_MS);
    await terminal.shows(`read-${SECRET.length}-bytes in /mnt/workspace`);

    await page.goto(runtime);
    await page.getByRole("button", { name: "Delete" }).first().click();
    const sure = page.getByRole("dialog");
    const remove = sure.getByRole("button", { name: "Delete" });
    expect(await remove.isDisabled()).toBe(true);
    await sure.getByRole("textbox").fill("by_hand");
    await remove.click();
    await page.getByRole("heading", { name: "Runtimes" }).waitFor();
    await until("the runtime is gone from the list", PATIENCE_MS, async () => {
      return (await page.getByRole("link", { name: "by_hand" }).count()) === 0;
    });
  });

  test("that cannot be made says why", { timeout: 120_000 }, async () => {
    const { page } = await stage.window();
    await page.goto(`${stage.server.origin}/console/runtimes`);
    await page.getByRole("button", { name: "New runtime" }).click();
    await fill(page, "nothing_there", "s3://code/missing.zip");
    await page.getByRole("button", { name: "Create runtime" }).click();
    await page.getByRole("heading", { name: "nothing_there" }).waitFor();
    await page.getByRole("status").getByText("CREATE_FAILED").waitFor({ timeout: PATIENCE_MS });
    expect(await page.locator(".notice.danger").innerText()).toContain("missing.zip");
  });
});

/** Fills the form of a new runtime of a zip. */
async function fill(page: Page, name: string, zip: string): Promise<void> {
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Runs").selectOption("code");
  await page.getByLabel("Zip").fill(zip);
  await page.getByLabel("Interpreter").selectOption(`PYTHON_3_${python}`);
  await page.getByLabel("Entry point").fill("agent.py");
}
