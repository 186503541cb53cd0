/** The page of `clamshell web`: what a person does with shells that run at another endpoint. */
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { type Api, Server } from "./server";
import { paint, startBrowser, Terminal, window } from "./terminal";
import { until } from "./until";

describe.skipIf(LACKING)("a web terminal in front of another endpoint", () => {
  let upstream: Server;
  let web: Server;
  let browser: Browser;
  beforeAll(async () => {
    upstream = await Server.start();
    web = await Server.inFrontOf(upstream);
    browser = await startBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await web?.remove();
    await upstream?.remove();
  });

  async function person(): Promise<{ api: Api; context: BrowserContext; page: Page; refused: string[] }> {
    const api = await web.login();
    const { context, page } = await window(browser, api);
    const refused: string[] = [];
    page.on("response", (response) => {
      if (response.status() >= 400) refused.push(`${response.status()} ${response.url()}`);
    });
    return { api, context, page, refused };
  }

  test("every page of the menu has what it asks for", async () => {
    const { context, page, refused } = await person();
    await page.goto(`${web.origin}/console`);
    await page.getByRole("heading", { name: "No terminal is open" }).waitFor();
    await page.goto(`${web.origin}/console/settings`);
    await page.getByRole("heading", { name: "Settings" }).waitFor();
    const links = page.getByRole("navigation", { name: "Views" }).getByRole("link");
    const names = (await links.allTextContents()).map((name) => name.trim());
    expect(names).toEqual(["Terminals", "Users", "Logins", "Audit trail", "Settings"]);
    for (const path of ["users", "logins", "audit", "settings"]) {
      await page.goto(`${web.origin}/console/${path}`);
      await page.getByRole("heading", { level: 1 }).waitFor();
      await page.locator(".loading").waitFor({ state: "detached" });
    }
    expect(refused).toEqual([]);
    await context.close();
  });

  test("a terminal works, outlives both servers, and is found again", async () => {
    const { api, context, page, refused } = await person();
    const terminal = await Terminal.open(page, api);
    await terminal.line("echo first-$((6*7))");
    await terminal.shows("first-42");
    expect(refused).toEqual([]);
    await page.reload();
    await terminal.is("live");
    await terminal.shows("first-42");
    await upstream.stop();
    await terminal.line("echo second-$((6*7))");
    await upstream.start();
    await terminal.shows("second-42");
    await web.kill9();
    await terminal.is("reconnecting");
    await web.start();
    await terminal.is("live");
    await terminal.line("echo third-$((6*7))");
    await terminal.shows("third-42");
    await context.close();
  });

  /** Waits until the page shows what the endpoint's own screen of the shell shows, with every byte counted. */
  async function isExact(terminal: Terminal): Promise<void> {
    const there = await upstream.login();
    await until("the screen is the endpoint's", 30_000, async () => {
      const info = await terminal.info();
      const [shown, offset] = [await terminal.lines(), await terminal.offset()];
      const reference = await paint(info, await there.painted(terminal.session, terminal.shell));
      const log = await there.log(terminal.session, terminal.shell);
      if (offset !== info.endOffset) throw new Error(`${offset} bytes are shown of ${info.endOffset}`);
      const run = (info as unknown as { runOffset: number }).runOffset;
      const count = info.endOffset - run;
      if (count !== log.bytes.length) throw new Error(`${count} bytes came of ${log.bytes.length}`);
      expect(shown).toEqual(reference);
      return true;
    });
  }

  test("killed while output comes, it goes on at the byte", async () => {
    const { api, context, page } = await person();
    const terminal = await Terminal.open(page, api);
    // Slow enough that a replay, 256 KiB, has what is printed while nobody is connected.
    await terminal.line(
      "for i in $(seq 1 200); do seq $((i*10000)) $((i*10000+249)); sleep 0.03; done; echo done-$((6*7))",
    );
    for (let kill = 0; kill < 3; kill += 1) {
      const before = await terminal.offset();
      await until("output comes", 20_000, async () => (await terminal.offset()) > before + 20_000);
      await web.kill9();
      await web.start();
      await terminal.is("live");
    }
    await terminal.shows("done-42", 60_000);
    await isExact(terminal);
    // It was the same program all the time, painted once.
    expect(await terminal.pane.innerText()).not.toContain("another program");
    await context.close();
  });

  test("killed while somebody types, it passes every key on once", async () => {
    const { api, context, page } = await person();
    const terminal = await Terminal.open(page, api);
    await terminal.line("stty -echo; cat > /tmp/typed; stty echo; cat /tmp/typed; echo done-$((6*7))");
    const typing = (async () => {
      for (let line = 1; line <= 60; line += 1) {
        await terminal.type(`${line} `);
        if (line % 15 === 0) await terminal.press("Enter");
      }
    })();
    for (let kill = 0; kill < 2; kill += 1) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      await web.kill9();
      await new Promise((resolve) => setTimeout(resolve, 300));
      await web.start();
      await terminal.is("live");
    }
    await typing;
    await terminal.press("Control+d");
    await terminal.shows("done-42");
    const lines = (await terminal.lines()).filter((line) => /^[0-9 ]+$/.test(line));
    const typed = lines
      .join(" ")
      .split(/ +/)
      .filter((word) => word !== "");
    expect(typed).toEqual(Array.from({ length: 60 }, (_, index) => `${index + 1}`));
    await isExact(terminal);
    await context.close();
  });

  test("new terminals have names that tell them apart", async () => {
    const { api, context, page } = await person();
    const first = await Terminal.open(page, api);
    await until("the pane has its name", 10_000, async () => {
      const name = await first.pane.locator(".term-name").innerText();
      if (name !== "default 1") throw new Error(name);
      return true;
    });
    await first.press("Alt+Shift+N");
    const names = page.getByRole("tab");
    await until("the second one as well", 20_000, async () => {
      const all = (await names.allInnerTexts()).map((name) => name.split("\n")[0]?.trim());
      if (!all.some((name) => name?.includes("default 2"))) throw new Error(all.join(", "));
      return true;
    });
    const titles = (await api.shells(first.session)).map((shell) => (shell as { title?: string }).title);
    expect(titles.sort()).toEqual(["default 1", "default 2"]);
    await context.close();
  });

  test("shells that nobody looks at are listed, opened and ended", async () => {
    const { api, context, page } = await person();
    const terminal = await Terminal.open(page, api);
    await api.call("PUT", `/sessions/${terminal.session}/shells/${terminal.shell}/title`, {
      title: "nightly",
    });
    const menu = page.getByRole("dialog", { name: "Sessions and running shells" });
    await terminal.press("Alt+Shift+D");
    await page.keyboard.press("Alt+Shift+P");
    await menu.getByRole("button", { name: "Open nightly" }).click();
    await terminal.is("live");
    await terminal.press("Alt+Shift+D");
    await page.keyboard.press("Alt+Shift+P");
    await menu.getByRole("button", { name: "End nightly" }).click();
    await page.getByRole("button", { name: "End the shell" }).click();
    await menu.getByRole("button", { name: "End nightly" }).waitFor({ state: "detached" });
    expect((await api.shell(terminal.session, terminal.shell)).state).toBe("Ended");
    await context.close();
  });
});
