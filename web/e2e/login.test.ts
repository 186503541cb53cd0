/** Signing in, and what ends with a login. */
import { describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { Api } from "./server";
import { useStage } from "./stage";
import { Terminal } from "./terminal";

const PASSWORD = "correct horse battery staple";

describe.skipIf(LACKING)("login", () => {
  const stage = useStage();

  test("a link signs in once, and its secret leaves the address", async () => {
    const { server, browser } = stage;
    const token = server.linkToken();
    const first = await (await browser.newContext()).newPage();
    await first.goto(`${server.origin}/console/login#link=${token}`);
    await first.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
    expect(first.url()).not.toContain(token);
    const second = await (await browser.newContext()).newPage();
    await second.goto(`${server.origin}/console/login#link=${token}`);
    await second.getByRole("alert").getByText("Wrong user name, password or link").waitFor();
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
