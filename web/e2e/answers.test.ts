/** Questions of programs to the terminal: one answer comes, however many terminals show them. */
import { type ChildProcess, spawn } from "node:child_process";
import headless from "@xterm/headless";
import type { Page } from "playwright-core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LACKING, PROGRAM } from "./lacking";
import { Server } from "./server";
import { useStage } from "./stage";
import { startBrowser, Terminal, window } from "./terminal";
import { until } from "./until";

/** Device attributes, the cursor, the background. */
const QUESTIONS = "\\x1b[c\\x1b[6n\\x1b]11;?\\x1b\\\\";

/**
 * Asks, and tells in hex what comes until each of the letters in its argument was typed: what somebody types comes
 * after the answers of the same terminal.
 */
const READER = [
  "import os,sys,tty",
  "tty.setraw(0)",
  `os.write(1,b'\\x1b[2J\\x1b[H${QUESTIONS}asked-%d'%(6*7))`,
  "b=b''",
  "letters=sys.argv[1].encode()",
  "while any(l not in b for l in letters): b+=os.read(0,4096)",
  "os.write(1,b'\\r\\nread %s.\\r\\n'%bytes(c for c in b if c not in letters).hex(' ').encode())",
].join("\n");

/** One answer to each question, in order. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the terminal answers with them.
const ONE_ANSWER = /^\x1b\[\?[\d;]+c\x1b\[1;1R\x1b\]11;rgb:[\da-f/]+\x1b\\$/;

describe.skipIf(LACKING)("questions", () => {
  const stage = useStage();
  let mine: Terminal;
  let page: Page;
  const clients: ChildProcess[] = [];
  beforeEach(async () => {
    ({ page, terminal: mine } = await stage.open());
    await mine.line(`echo ${Buffer.from(READER).toString("base64")} | base64 -d >/tmp/ask.py; clear`);
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.kill("SIGKILL");
  });

  /** Starts the program from here. Letters are typed one by one where it is shown, and it tells what it read. */
  async function ask(terminal: Terminal, letters: Record<string, () => Promise<void>>): Promise<string> {
    const before = (await terminal.info()).endOffset;
    await terminal.line(`python3 /tmp/ask.py ${Object.keys(letters).join("")}; stty sane`);
    const since = async () => {
      const { offset, bytes } = await terminal.api.log(terminal.session, terminal.shell);
      return bytes.subarray(before - offset).toString("latin1");
    };
    await until("it has asked", 20_000, async () => (await since()).includes("asked-42"));
    for (const type of Object.values(letters)) await type();
    const read = await until(
      "it has read",
      20_000,
      async () => /read ([\da-f ]*)\.\r/.exec(await since()) ?? undefined,
    );
    return Buffer.from((read[1] ?? "").replaceAll(" ", ""), "hex").toString("latin1");
  }

  /** Types a letter, once the questions are shown there. */
  const letter = (terminal: Terminal, letter: string) => async () => {
    await terminal.shows("asked-42");
    await terminal.type(letter);
  };

  /** The command line at a terminal that answers, in the shell of `mine`. */
  async function commandLine(): Promise<{
    type(text: string): void;
    shows(text: string): Promise<void>;
    leave(): Promise<void>;
  }> {
    const { session, shell } = mine;
    const command = `stty cols 90 rows 30; exec ${PROGRAM} exec --it --session-id ${session} --shell-id ${shell} --data-dir ${stage.server.dataDir}`;
    const child = spawn("script", ["-qfec", command, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
    clients.push(child);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    const screen = new headless.Terminal({ cols: 90, rows: 30, allowProposedApi: true });
    // The reference has no colors to tell of.
    screen.parser.registerOscHandler(11, (data) => {
      if (data === "?") child.stdin.write("\x1b]11;rgb:1111/2222/3333\x1b\\");
      return true;
    });
    screen.onData((data) => child.stdin.write(data));
    let seen = "";
    child.stdout.on("data", (bytes: Buffer) => {
      seen += bytes.toString("latin1");
      screen.write(bytes);
    });
    return {
      type: (text) => child.stdin.write(text),
      shows: async (text) => {
        await until(`the command line shows ${text}`, 20_000, async () => seen.includes(text));
        seen = "";
      },
      leave: async () => {
        child.stdin.write("\x1d");
        await ended;
      },
    };
  }

  test("two browsers: whoever typed last answers, and the other one when that one has left", async () => {
    const other = await startBrowser();
    try {
      const { context, page } = await window(other, await stage.server.login(), stage.server.origin, {
        width: 700,
        height: 500,
      });
      const theirs = await Terminal.join(page, stage.api, mine.session, mine.shell);
      const both = { X: letter(mine, "X"), Y: letter(theirs, "Y") };
      expect(await ask(mine, both)).toMatch(ONE_ANSWER);
      expect(await ask(theirs, both)).toMatch(ONE_ANSWER);
      expect(await ask(mine, { Y: both.Y, X: both.X })).toMatch(ONE_ANSWER);
      // Who answers leaves while the program asks on.
      await theirs.line("clear; echo turn-$((6*7))");
      await theirs.shows("turn-42");
      await context.close();
      await until("it has left", 20_000, async () => (await mine.info()).writers === 1);
      expect(await ask(mine, { X: both.X })).toMatch(ONE_ANSWER);
    } finally {
      await other.close();
    }
  });

  test("the one who answered leaves, and a question that comes by itself is answered by the other", async () => {
    const { context, page } = await stage.window();
    const theirs = await Terminal.join(page, stage.api, mine.session, mine.shell);
    await theirs.line(
      "clear; echo waits-$((6*7)); while [ ! -e /tmp/go ]; do sleep 0.1; done; python3 /tmp/ask.py X; stty sane",
    );
    await mine.shows("waits-42");
    await context.close();
    await until("it has left", 20_000, async () => (await mine.info()).writers === 1);
    await stage.server.run("exec", "--session-id", mine.session, "touch /tmp/go");
    await letter(mine, "X")();
    await mine.shows("read 1b 5b 3f");
    const text = (await mine.lines()).join("").replaceAll(/^.*read |\..*$/g, "");
    expect(Buffer.from(text.replaceAll(" ", ""), "hex").toString("latin1")).toMatch(ONE_ANSWER);
  });

  test("a browser and the command line: the terminal of the latter answers, and the page when it has left", async () => {
    const client = await commandLine();
    client.type("echo joined-$((6*7))\r");
    await client.shows("joined-42");
    await until("both are there", 20_000, async () => (await mine.info()).writers === 2);
    const viaClient = async () => {
      await client.shows("asked-42");
      client.type("Y");
    };
    expect(await ask(mine, { X: letter(mine, "X"), Y: viaClient })).toMatch(ONE_ANSWER);
    await client.leave();
    await until("it has left", 20_000, async () => (await mine.info()).writers === 1);
    expect(await ask(mine, { X: letter(mine, "X") })).toMatch(ONE_ANSWER);
  });

  test("who watches never answers, and old questions are not answered again", async () => {
    const watching = await stage.window();
    const watcher = await Terminal.join(watching.page, stage.api, mine.session, mine.shell, true);
    const seen = async () => {
      await watcher.shows("asked-42");
      await letter(mine, "X")();
    };
    expect(await ask(mine, { X: seen })).toMatch(ONE_ANSWER);
    // A lost connection goes on at the next byte, and shows what was printed meanwhile.
    const before = (await mine.info()).endOffset;
    await page.context().setOffline(true);
    await stage.server.run("exec", "--session-id", mine.session, "true");
    await page.context().setOffline(false);
    await page.reload();
    await mine.is("live");
    await mine.line("echo clean-$((6*7))");
    await mine.shows("clean-42");
    const { offset, bytes } = await stage.api.log(mine.session, mine.shell);
    expect(bytes.subarray(before - offset).toString("latin1")).not.toContain("rgb:");
  });
});

describe.skipIf(LACKING)("questions, in front of another endpoint", () => {
  let upstream: Server;
  let web: Server;
  test("two browsers: one answer", { timeout: 120_000 }, async () => {
    upstream = await Server.start();
    web = await Server.inFrontOf(upstream);
    const browser = await startBrowser();
    try {
      const api = await web.login();
      const first = await window(browser, api);
      const mine = await Terminal.open(first.page, api);
      await mine.line(`echo ${Buffer.from(READER).toString("base64")} | base64 -d >/tmp/ask.py; clear`);
      const second = await window(browser, api);
      const theirs = await Terminal.join(second.page, api, mine.session, mine.shell);
      await theirs.line("clear; python3 /tmp/ask.py XY; stty sane");
      for (const [terminal, letter] of [
        [mine, "X"],
        [theirs, "Y"],
      ] as const) {
        await terminal.shows("asked-42");
        await terminal.type(letter);
      }
      await mine.shows(/read 1b [\da-f \n]*\./);
      const text = (await mine.lines()).join("").replaceAll(/^.*read |\..*$/g, "");
      expect(Buffer.from(text.replaceAll(" ", ""), "hex").toString("latin1")).toMatch(ONE_ANSWER);
    } finally {
      await browser.close();
      await web.remove();
      await upstream.remove();
    }
  });
});
