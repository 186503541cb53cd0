/** Signing in, and what ends with a login. */
import { describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { Api } from "./server";
import { useStage } from "./stage";
import { Terminal } from "./terminal";
import { until } from "./until";

const PASSWORD = "correct horse battery staple";

describe.skipIf(LACKING)("login", () => {
  const stage = useStage();

  test("a link signs in once, when a person says so, and its secret leaves the address", async () => {
    const { server, browser } = stage;
    const token = server.linkToken();
    const address = `${server.origin}/console/login#link=${token}`;
    const first = await (await browser.newContext()).newPage();
    await first.goto(address);
    const button = first.getByRole("button", { name: "Sign in as root with this link" });
    await button.waitFor();
    expect(first.url()).not.toContain(token);
    expect(await first.evaluate(() => history.length)).toBe(2);
    expect(await first.context().cookies()).toEqual([]);
    // Read as often as somebody likes: nothing is used up by it.
    await first.goto("about:blank");
    await first.goto(address);
    await button.waitFor();
    expect(await button.evaluate((button) => document.activeElement === button)).toBe(true);
    await first.keyboard.press("Enter");
    await first.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
    expect(first.url()).not.toContain(token);
    const second = await (await browser.newContext()).newPage();
    await second.goto(address);
    await second.getByRole("alert").getByText("This link was used already").waitFor();
    expect(second.url()).not.toContain(token);
    const [cookie] = await first.context().cookies();
    expect(cookie).toMatchObject({
      name: "__Host-clamshell",
      httpOnly: true,
      secure: true,
      sameSite: "Strict",
    });
    expect(await first.evaluate(() => document.cookie)).toBe("");
    for (const page of [first, second]) await page.context().close();
  });

  test("a link that somebody sends says as whom it signs in, and takes nobody's place unasked", async () => {
    const { server } = stage;
    server.addUser("bob", "operator", PASSWORD);
    const bob = await Api.login(server.origin, { userName: "bob", password: PASSWORD });
    const { page } = await stage.window(bob);
    const terminal = await Terminal.open(page, bob);
    const tab = await page.context().newPage();
    const token = server.linkToken();
    const address = `${server.origin}/console/login#link=${token}`;
    await tab.goto(address);
    await tab
      .getByText("You are signed in as bob in this browser. That login ends when you go on.")
      .waitFor();
    await tab.getByRole("button", { name: "Stay signed in as bob" }).click();
    await tab.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
    await terminal.line("echo still-$((6*7))");
    await terminal.shows("still-42");
    // Going on: what the browser has open as bob ends.
    await tab.goto(address);
    await tab.getByRole("button", { name: "Sign in as root with this link" }).click();
    await tab.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
    const again = await bob.ask("GET", "/clamshell/v1/sessions");
    expect(again.status).toBe(401);
    const shell = await until("bob's terminal ends", 10_000, async () => {
      const shell = await stage.api.shell(terminal.session, terminal.shell);
      return shell.state === "Detached" ? shell : undefined;
    });
    expect(shell.writers).toBe(0);
  });

  test("a password signs in, a wrong one does not", async () => {
    const { server, browser } = stage;
    server.addUser("ann", "operator", PASSWORD);
    const page = await (await browser.newContext()).newPage();
    await page.goto(`${server.origin}/console`);
    for (const [password, isRight] of [
      ["wrong horse battery staple", false],
      [PASSWORD, true],
    ] as const) {
      await page.getByLabel("User name").fill("ann");
      await page.getByLabel("Password").fill(password);
      await page.getByRole("button", { name: "Sign in" }).click();
      if (isRight) await page.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
      else await page.getByRole("alert").getByText("Wrong user name, password or link").waitFor();
    }
    await page.context().close();
  });

  test("signing out closes the terminals; their shells go on", async () => {
    const leaving = await stage.server.login();
    const { page } = await stage.window(leaving);
    const terminal = await Terminal.open(page, leaving);
    await leaving.call("POST", "/console/logout");
    await page.getByRole("button", { name: "Sign in" }).waitFor();
    expect(await page.locator(".term-pane").count()).toBe(0);
    const shell = await stage.api.shell(terminal.session, terminal.shell);
    expect([shell.state, shell.writers]).toEqual(["Detached", 0]);
  });

  test("a viewer sees a terminal and cannot type", async () => {
    const { server, api } = stage;
    server.addUser("vera", "viewer", PASSWORD);
    const { terminal: mine } = await stage.open();
    const vera = await Api.login(server.origin, { userName: "vera", password: PASSWORD });
    const { page } = await stage.window(vera);
    const hers = await Terminal.join(page, vera, mine.session, mine.shell);
    await mine.line("echo seen-$((6*7))");
    await hers.shows("seen-42");
    await hers.line("echo typed-$((6*7))");
    await mine.line("echo after-$((6*7))");
    await hers.shows("after-42");
    expect((await hers.lines()).join("\n")).not.toContain("typed-");
    expect((await api.log(mine.session, mine.shell)).bytes.toString()).not.toContain("typed-");
    // Nor by a WebSocket of her own that asks to write.
    const path = `/clamshell/v1/sessions/${mine.session}/shells/${mine.shell}/attach?access=write`;
    const isOpen = await page.evaluate(
      (path) =>
        new Promise<boolean>((resolve) => {
          const socket = new WebSocket(`ws://${location.host}${path}`, ["clamshell.v1"]);
          socket.onopen = () => resolve(true);
          socket.onerror = () => resolve(false);
        }),
      path,
    );
    expect(isOpen).toBe(false);
  });
});
