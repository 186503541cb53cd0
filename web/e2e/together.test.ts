/** Several windows on one shell, and links that share it. */
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import type { Api, Server } from "./server";
import { useStage } from "./stage";
import { upgrade } from "./stranger";
import { startBrowser, Terminal, window } from "./terminal";
import { until } from "./until";

describe.skipIf(LACKING)("together", () => {
  const stage = useStage();
  let server: Server;
  let api: Api;
  let other: Browser;
  let first: Page;
  let mine: Terminal;
  beforeAll(async () => {
    ({ server, api } = stage);
    other = await startBrowser();
  });
  afterAll(async () => {
    await other?.close();
  });
  beforeEach(async () => {
    ({ page: first, terminal: mine } = await stage.open());
  });

  test("two browsers type into one shell, and both show all of it", async () => {
    const second = await window(other, await server.login(), server.origin, { width: 800, height: 500 });
    const theirs = await Terminal.join(second.page, api, mine.session, mine.shell);
    for (let turn = 0; turn < 5; turn += 1) {
      const [typing, looking] = turn % 2 === 0 ? [mine, theirs] : [theirs, mine];
      await typing.line(`echo turn-${turn}-$((6*7))`);
      await looking.shows(`turn-${turn}-42`);
      await typing.shows(`turn-${turn}-42`);
    }
    // Letters of both at once: none is lost.
    await mine.line("clear; cat");
    await Promise.all([mine.type("a".repeat(40)), theirs.type("b".repeat(40))]);
    // Two connections have no order between them: the line ends once all of its letters are there.
    const letters = async () => {
      const line = (await api.log(mine.session, mine.shell)).bytes.toString().split("cat\r\n").at(-1) ?? "";
      return [line.split("a").length - 1, line.split("b").length - 1];
    };
    await until("all letters of both", 30_000, async () => (await letters()).every((count) => count >= 40));
    expect(await letters()).toEqual([40, 40]);
    await mine.press("Enter");
    await mine.press("Control+d");
    await mine.line("echo over-$((6*7))");
    for (const each of [mine, theirs]) {
      await each.shows("over-42");
      await each.isExact();
    }
    expect((await mine.info()).writers).toBe(2);
    await second.context.close();
  });

  test("who takes over sends the other away, who can take it back", async () => {
    const second = await window(other, await server.login());
    const theirs = await Terminal.join(second.page, api, mine.session, mine.shell);
    await theirs.pane.getByRole("button", { name: "Take over" }).click();
    await mine.is("takenOver");
    await first.getByText("Another window took this shell over").waitFor();
    await theirs.is("live");
    await theirs.line("echo theirs-$((6*7))");
    await theirs.shows("theirs-42");
    await mine.pane.getByRole("button", { name: "Take it back" }).click();
    await mine.is("live");
    await theirs.is("takenOver");
    await mine.shows("theirs-42");
    await mine.isExact();
    await second.context.close();
  });

  test("a watch link shows everything and takes no key; taken back, it closes", async () => {
    const share = await api.call<{ url: string; shareId: string }>(
      "POST",
      `/sessions/${mine.session}/shells/${mine.shell}/shares`,
      { access: "watch", expiresInSeconds: 600 },
    );
    const context = await other.newContext({ viewport: { width: 1000, height: 640 } });
    const page = await context.newPage();
    await page.goto(share.url);
    const theirs = new Terminal(page, api, mine.session, mine.shell);
    await theirs.is("live");
    await mine.line("echo watched-$((6*7))");
    await theirs.shows("watched-42");
    await theirs.line("echo sneaked-in");
    await mine.line("echo then-$((6*7))");
    await theirs.shows("then-42");
    await theirs.isExact();
    expect((await api.log(mine.session, mine.shell)).bytes.toString()).not.toContain("sneaked");
    // Neither does the link's secret open more than that.
    const token = new URL(share.url).hash.slice(1);
    const path = `/clamshell/v1/sessions/${mine.session}/shells/${mine.shell}/attach?access=write`;
    const opened = await page.evaluate(
      ({ path, token }) =>
        new Promise<boolean>((resolve) => {
          const protocols = ["clamshell.v1", `clamshell.share.${token}`];
          const socket = new WebSocket(`ws://${location.host}${path}`, protocols);
          socket.onopen = () => resolve(true);
          socket.onerror = () => resolve(false);
        }),
      { path, token },
    );
    expect(opened).toBe(false);
    expect(await upgrade(page, `ws://127.0.0.1:${server.port}${path}`)).toBe("refused");
    await api.call("DELETE", `/shares/${share.shareId}`);
    await theirs.is("failed");
    await page.reload();
    await page.getByRole("heading", { name: "This link does not work" }).waitFor();
    await context.close();
  });

  test("a link that may type does so, until it expires", { timeout: 120_000 }, async () => {
    const share = await api.call<{ url: string }>(
      "POST",
      `/sessions/${mine.session}/shells/${mine.shell}/shares`,
      { access: "write", expiresInSeconds: 60 },
    );
    const context = await other.newContext({ viewport: { width: 1000, height: 640 } });
    const page = await context.newPage();
    await page.goto(share.url);
    const theirs = new Terminal(page, api, mine.session, mine.shell);
    await theirs.is("live");
    await theirs.line("echo guest-$((6*7))");
    await mine.shows("guest-42");
    await theirs.is("failed", 75_000);
    expect((await mine.info()).writers).toBe(1);
    await context.close();
  });
});
