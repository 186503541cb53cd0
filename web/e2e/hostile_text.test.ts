/** Texts that programs, files and people choose are shown as texts, wherever the page shows them. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { beforeAll, describe, expect, test } from "vitest";
import { LACKING, PROGRAM } from "./lacking";
import type { Api, Server } from "./server";
import { useStage } from "./stage";
import { Terminal } from "./terminal";
import { until } from "./until";

const MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>";
/** The same as a file may be called. */
const FILE = MARKUP.replaceAll("/", "∕");

describe.skipIf(LACKING)("hostile text", () => {
  const stage = useStage();
  let server: Server;
  let api: Api;
  let context: BrowserContext;
  let page: Page;
  let terminal: Terminal;
  const alarms: string[] = [];

  beforeAll(async () => {
    ({ server, api } = stage);
    ({ context, page } = await stage.window());
    await context.exposeFunction("alarm", (what: string) => alarms.push(what));
    await context.addInitScript(() => {
      const alarm = (what: string) => (globalThis as unknown as { alarm(what: string): void }).alarm(what);
      globalThis.alert = (what: unknown) => alarm(`alert ${what}`);
      document.addEventListener("securitypolicyviolation", (event) => {
        alarm(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    terminal = await Terminal.open(page, api);
    // Both alarms ring when there is reason.
    await page.evaluate(() => {
      alert("try");
      const image = document.createElement("img");
      image.src = "http://elsewhere.example/";
      document.body.append(image);
      setTimeout(() => image.remove(), 0);
    });
    await until("the alarms ring", 5000, async () => alarms.length === 2);
    alarms.length = 0;
  });

  /** Looks at a view until it shows a text as it is, and that nothing in it came alive. */
  async function showsVerbatim(path: string, text: string): Promise<void> {
    await page.goto(`${server.origin}/console/${path}`);
    await until(`${path} shows the text`, 15_000, async () => {
      const shown = await page.locator("body").innerText();
      if (shown.includes(text)) return true;
      throw new Error(shown.slice(0, 1500));
    });
    expect(await page.locator('img[src="x"], script:not([src])').count(), path).toBe(0);
    expect(alarms).toEqual([]);
  }

  test("names of shells, by people and by programs", async () => {
    await api.call("PUT", `/sessions/${terminal.session}/shells/${terminal.shell}/title`, { title: MARKUP });
    await terminal.line(`printf '\\033]0;${MARKUP.replaceAll("'", "")}\\007'; echo named-$((6*7))`);
    await terminal.shows("named-42");
    for (const path of ["terminal", "shells"]) await showsVerbatim(path, MARKUP);
    expect(await page.title()).not.toContain("\u0007");
  });

  test("names of files", async () => {
    const query = new URLSearchParams({ path: `/${FILE}` });
    const put = `/clamshell/v1/sessions/${terminal.session}/files/content?${query}`.replaceAll("+", "%20");
    const response = await api.ask("PUT", put, `${MARKUP}\n`);
    expect(response.status).toBeLessThan(300);
    await page.goto(`${server.origin}/console/files`);
    await page.locator("tbody th a").first().click();
    await page.getByText(FILE).first().waitFor();
    await page.getByText(FILE).first().click();
    await page.getByText(MARKUP).first().waitFor();
    expect(await page.locator('img[src="x"], script:not([src])').count()).toBe(0);
    expect(alarms).toEqual([]);
  });

  test("descriptions of runtimes and users, and the audit trail", async () => {
    const description = MARKUP;
    server.run("runtime", "create", "hostile", "--image", "host", "--description", description);
    await api.call("POST", "/users", { userName: "mallory", description });
    await page.goto(`${server.origin}/console/runtimes`);
    await page.locator("tbody th a", { hasText: "hostile" }).click();
    await page.getByText(description).first().waitFor();
    await showsVerbatim("users", description);
    await page.goto(`${server.origin}/console/audit`);
    await page.getByText("CreateUser").first().waitFor();
    expect(await page.locator('img[src="x"], script:not([src])').count()).toBe(0);
    expect(alarms).toEqual([]);
  });

  test("lines that an agent prints", async () => {
    const folder = join(server.dataDir, "printer");
    execFileSync(PROGRAM, ["create", "printer", "--agent", "plain-http", "--dir", folder], {
      stdio: "ignore",
    });
    const file = join(folder, "agent.py");
    // Markup, a title of a terminal, and characters that turn the direction of text.
    const line = `${MARKUP}\u001b]0;owned\u0007\u202eend`;
    writeFileSync(
      file,
      `${readFileSync(file, "utf8")}`.replace(
        "import json\n",
        `import json\nprint(${JSON.stringify(line)}, flush=True)\n`,
      ),
    );
    server.run("deploy", folder, "--name", "printer");
    server.run("invoke", "printer", "hello");
    await showsVerbatim("logs/printer/DEFAULT", MARKUP);
    expect(await page.title()).not.toContain("owned");
    expect(await page.locator("body").innerText()).not.toContain("\u202e");
  });

  test("a name of a user that is no name is refused", async () => {
    const response = await api.ask("POST", "/clamshell/v1/users", JSON.stringify({ userName: MARKUP }));
    expect(response.status).toBe(400);
  });

  test("what is in an address", async () => {
    for (const path of [
      `${encodeURIComponent(MARKUP)}`,
      `login#link=${encodeURIComponent(MARKUP)}`,
      `share#${encodeURIComponent(MARKUP)}`,
    ]) {
      await page.goto(`${server.origin}/console/${path}`);
      await page.locator("h1").first().waitFor();
      expect(await page.locator('img[src="x"], script:not([src])').count()).toBe(0);
    }
    expect(alarms).toEqual([]);
  });

  test("a program fills the clipboard only when a person allows it, and never reads it", async () => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: server.origin });
    await page.goto(`${server.origin}/console/terminal`);
    await terminal.is("live");
    await terminal.focus();
    await page.evaluate(() => navigator.clipboard.writeText("of the person"));
    const text = Buffer.from("rm -rf ~\n\u001b[201~").toString("base64");
    await terminal.line(`clear; printf '\\033]52;c;${text}\\007'`);
    const question = page.getByRole("alert").filter({ hasText: "clipboard" });
    await question.waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("of the person");
    await question.getByRole("button", { name: "Never here" }).click();
    await terminal.line(`printf '\\033]52;c;${text}\\007'; echo asked-$((6*7))`);
    await terminal.shows("asked-42");
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("of the person");
    // An answer to the question what the clipboard has would be typed into the shell.
    await terminal.line("clear; printf '\\033]52;c;?\\007'; sleep 1; echo read-$((6*7))");
    await terminal.shows("read-42");
    expect((await terminal.lines()).join("\n")).not.toContain(
      Buffer.from("of the person").toString("base64"),
    );
    expect(alarms).toEqual([]);
  });

  test("a link of a program is opened only after its address was shown, and only if it is http", async () => {
    const line =
      "clear; printf '\\033]8;;https://real.example/path\\007click-here\\033]8;;\\007 \\033]8;;javascript:alert(3)\\007not-here\\033]8;;\\007\\n'";
    await terminal.line(line);
    const opened: string[] = [];
    context.on("page", (other) => opened.push(other.url()));
    const click = async (text: string) => {
      const lines = await terminal.lines();
      const row = lines.findIndex((each) => each.startsWith("click-here"));
      const column = (lines[row] ?? "").indexOf(text) + 2;
      const box = await terminal.pane.locator(".xterm-screen").boundingBox();
      const { cols, rows } = await terminal.info();
      if (!box) throw new Error("no screen");
      const at = [
        box.x + ((column + 0.5) * box.width) / cols,
        box.y + ((row + 0.5) * box.height) / rows,
      ] as const;
      await page.mouse.move(...at);
      await page.mouse.move(at[0] + 2, at[1]);
      await page.waitForTimeout(200);
      await page.mouse.click(...at);
    };
    await terminal.shows("click-here not-here");
    await click("click-here");
    const dialog = page.getByRole("dialog");
    await dialog.getByText("https://real.example/path").waitFor();
    expect(opened).toEqual([]);
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await click("not-here");
    await page.waitForTimeout(500);
    expect(await dialog.count()).toBe(0);
    expect([opened, alarms]).toEqual([[], []]);
  });
});
