/** The page of `clamshell web`: what a person does with shells that run at another endpoint. */
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { type Api, Server } from "./server";
import { startBrowser, Terminal, window } from "./terminal";

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
