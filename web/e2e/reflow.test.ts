/** Windows of several widths on one shell: lines are wrapped anew, and nothing is written over. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, test } from "vitest";
import { LACKING } from "./lacking";
import { type Api, Server } from "./server";
import { startBrowser, Terminal, window } from "./terminal";

/** What is wider than a phone. */
const LINE = `echo ${"a-word-of-a-long-line ".repeat(6)}; ls --color /; echo joined-$((6*7))`;

describe.skipIf(LACKING)("windows of several widths", () => {
  let server: Server;
  let browser: Browser;
  let api: Api;
  beforeAll(async () => {
    server = await Server.start();
    browser = await startBrowser();
    api = await server.login();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.remove();
  });

  for (const [from, to] of [
    [1280, 360],
    [360, 1280],
  ] as const) {
    test(`one of ${to} pixels joins the shell of one of ${from}`, async () => {
      const first = await window(browser, api, api.origin, { width: from, height: 700 });
      const wide = await Terminal.open(first.page, api);
      await wide.line(LINE);
      await wide.shows("joined-42");
      await wide.isExact();
      await first.context.close();
      const second = await window(browser, api, api.origin, { width: to, height: 700 });
      const narrow = await Terminal.join(second.page, api, wide.session, wide.shell);
      await narrow.shows("joined-42");
      await narrow.isExact();
      await second.context.close();
    });
  }

  test("one becomes as narrow as a phone", async () => {
    const { context, page } = await window(browser, api, api.origin, { width: 1280, height: 700 });
    const terminal = await Terminal.open(page, api);
    await terminal.line(LINE);
    await terminal.shows("joined-42");
    await page.setViewportSize({ width: 360, height: 700 });
    await terminal.isExact();
    await context.close();
  });
});
