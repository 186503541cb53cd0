/** After whatever cuts a terminal off: the screen of the reference, and the count of bytes exact. */
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Cable } from "./cable";
import { Frames } from "./frames";
import { LACKING } from "./lacking";
import type { Api, Server } from "./server";
import { useStage } from "./stage";
import { paint, Terminal } from "./terminal";
import { until } from "./until";

/** Output that goes on for some seconds while something happens: two megabytes, and a last line. */
const COUNTER =
  "for i in $(seq 1 150); do seq $((i*10000)) $((i*10000+1999)); sleep 0.03; done; echo done-$((6*7))";

describe.skipIf(LACKING)("resuming", () => {
  let cable: Cable;
  let server: Server;
  let api: Api;
  let page: Page;
  let frames: Frames;
  let terminal: Terminal;

  beforeAll(async () => {
    cable = await Cable.start();
  });
  const stage = useStage({ configuration: () => `[console]\nhosts = ["127.0.0.1:${cable.port}"]\n` });
  beforeAll(() => {
    ({ server, api } = stage);
    cable.target(server.port);
  });
  afterAll(() => cable?.stop());
  beforeEach(async () => {
    cable.mend();
    ({ page } = await stage.window());
    frames = new Frames(page);
    terminal = await Terminal.open(page, api, cable.origin);
  });

  /** Begins output and waits until some of it is shown. */
  async function begin(): Promise<void> {
    const before = await terminal.offset();
    await terminal.line(COUNTER);
    await until("output comes", 20_000, async () => (await terminal.offset()) > before + 50_000);
  }

  /** What must hold afterwards; `frames` only where the page stayed the same. */
  async function end(): Promise<void> {
    await terminal.shows("done-42", 45_000);
    await terminal.is("live");
    await terminal.isExact();
    const log = await api.log(terminal.session, terminal.shell);
    frames.check(log);
    // And the whole log, painted by a terminal of this size, looks the same.
    expect(await terminal.lines()).toEqual(await paint(await terminal.info(), log.bytes));
  }

  test("reload during output", async () => {
    await begin();
    await page.reload();
    await terminal.is("live");
    await end();
    // The same shell, and no other one beside it.
    expect(await api.shells(terminal.session)).toHaveLength(1);
  });

  test("network cut at the socket during output, three times", async () => {
    await begin();
    for (let cut = 0; cut < 3; cut += 1) {
      const before = await terminal.offset();
      cable.cut();
      await terminal.is("reconnecting");
      cable.mend();
      await terminal.is("live");
      await until("output goes on", 20_000, async () => (await terminal.offset()) > before);
    }
    await end();
    expect(frames.connections.length).toBeGreaterThanOrEqual(4);
  });

  test("server stopped until the page says so, and started again", async () => {
    await begin();
    await server.stop();
    await terminal.is("reconnecting");
    expect(await terminal.pane.getByRole("status").first().innerText()).toContain("Reconnecting");
    await server.start();
    await terminal.is("live");
    await end();
  });

  test("server replaced within a moment, as an upgrade does", async () => {
    await begin();
    await server.stop();
    await server.start();
    await terminal.is("live");
    await end();
  });

  test("server killed during output", async () => {
    await begin();
    await server.kill9();
    await server.start();
    await terminal.is("live");
    await end();
  });

  test("laptop asleep during output: the browser stands still, the network is gone", async () => {
    await begin();
    const wakeUp = await fallAsleep(stage.browser);
    try {
      cable.cut();
      await until("the program goes on alone", 40_000, async () => {
        const { bytes } = await api.log(terminal.session, terminal.shell);
        return bytes.subarray(-200).includes("done-42");
      });
      cable.mend();
    } finally {
      wakeUp();
    }
    await terminal.is("live", 45_000);
    await end();
  });

  test("laptop asleep while the connection dies without a word", { timeout: 120_000 }, async () => {
    await terminal.line("sleep 1; echo one-$((6*7))");
    await terminal.shows("one-42");
    const before = frames.connections.length;
    const wakeUp = await fallAsleep(stage.browser);
    try {
      cable.stall();
      // Longer than any timer of the page is ever late while it is awake.
      await new Promise((resolve) => setTimeout(resolve, 22_000));
    } finally {
      wakeUp();
    }
    // What is awake again asks for a sign of life, and connects anew when none comes.
    await until("another connection stands", 30_000, async () => frames.connections.length > before);
    await terminal.is("live");
    await terminal.line(COUNTER);
    await end();
  });

  test("fifty lines typed while offline come once, in order", async () => {
    const lines = Array.from({ length: 50 }, (_, index) => `echo kept-${index}-$((6*7))`);
    // What was on its way at the cut is neither certain to have come nor sent again.
    await terminal.line("echo ready-$((6*7))");
    await terminal.shows(/ready-42\n.*[$#]$/m);
    cable.cut();
    await terminal.is("reconnecting");
    for (const line of lines) await terminal.line(line);
    cable.mend();
    await terminal.is("live");
    await terminal.shows("kept-49-42");
    await terminal.isExact();
    const text = (await api.log(terminal.session, terminal.shell)).bytes.toString();
    const came = [...text.matchAll(/kept-(\d+)-42/g)].map((match) => Number(match[1]));
    expect(came, text).toEqual(lines.map((_, index) => index));
  });
});

/** Stops all processes of the browser, as a machine that sleeps does; the result lets them go on. */
async function fallAsleep(browser: Browser): Promise<() => void> {
  const devtools = await browser.newBrowserCDPSession();
  const { processInfo } = await devtools.send("SystemInfo.getProcessInfo");
  await devtools.detach();
  const pids = processInfo.map(({ id }) => id);
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  return () => {
    for (const pid of pids) process.kill(pid, "SIGCONT");
  };
}
