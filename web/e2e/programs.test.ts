/** Programs that use all of a terminal, seen in the browser. */
import { createHash } from "node:crypto";
import type { Page } from "playwright-core";
import { beforeEach, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import type { Terminal } from "./terminal";
import { until } from "./until";

describe.skipIf(LACKING)("programs", () => {
  const stage = useStage();
  let page: Page;
  let terminal: Terminal;
  beforeEach(async () => {
    ({ page, terminal } = await stage.open());
  });

  test("vim: a file is written, and after a reload the editor stands as it was", async () => {
    await terminal.line("cd /mnt/workspace; vim -u NONE -N made.txt");
    await terminal.shows("~");
    await terminal.type("ifirst line\nsecond line");
    await terminal.press("Escape");
    await terminal.type("yypk");
    await terminal.shows(/first line\nsecond line\nsecond line/);
    await terminal.isExact();
    await page.reload();
    await terminal.is("live");
    await terminal.isExact();
    await terminal.type(":wq\n");
    await terminal.line("clear; cat made.txt; echo left-$((6*7))");
    await terminal.shows(/first line\nsecond line\nsecond line\nleft-42/);
    await terminal.isExact();
  });

  test("less: pages, searches, and gives the screen back", async () => {
    await terminal.line("clear; echo before-$((6*7)); seq 1 5000 | less");
    await terminal.shows(/^1\n2\n3$/m);
    await terminal.press("PageDown");
    await terminal.type("/^4321$\n");
    await terminal.shows(/^4321\n4322$/m);
    await terminal.isExact();
    await terminal.type("q");
    await terminal.shows(/before-42\n.*[$#]\s*$/);
    await terminal.isExact();
  });

  test("top: redraws itself, and ends by q", async () => {
    await terminal.line("top -d 1");
    await terminal.shows(/Tasks:.*total/);
    const first = (await terminal.lines())[0];
    await until("it redraws", 10_000, async () => (await terminal.lines())[0] !== first);
    await terminal.type("q");
    // It forgets what was typed ahead when it ends.
    await terminal.shows(/[$#]\s*$/);
    await terminal.line("echo left-$((6*7))");
    await terminal.shows("left-42");
    await terminal.isExact();
  });

  test("256 colors and 24-bit colors are those that were asked for", async () => {
    await terminal.line(
      "clear; for i in $(seq 16 255); do printf '\\033[48;5;%dm%3d\\033[0m ' $i $i; done; printf '\\n\\033[38;2;1;2;3mtrue\\033[0m\\n'; echo end-$((6*7))",
    );
    await terminal.shows("end-42");
    await terminal.isExact();
    const color = (text: string) =>
      terminal.pane
        .locator(".xterm-rows span", { hasText: new RegExp(`^\\s*${text}\\s*$`) })
        .first()
        .evaluate((span) => ({
          bg: getComputedStyle(span).backgroundColor,
          fg: getComputedStyle(span).color,
        }));
    // The cube of six levels, and the ramp of grays.
    expect((await color("16")).bg).toBe("rgb(0, 0, 0)");
    expect((await color("21")).bg).toBe("rgb(0, 0, 255)");
    expect((await color("208")).bg).toBe("rgb(255, 135, 0)");
    expect((await color("232")).bg).toBe("rgb(8, 8, 8)");
    expect((await color("255")).bg).toBe("rgb(238, 238, 238)");
    expect((await color("true")).fg).toBe("rgb(1, 2, 3)");
  });

  test("wide, combining and joined characters keep their cells", async () => {
    await terminal.line(
      "clear; printf '漢字|e\\u0301|한국어|👩‍💻|🇩🇪|a\\u0300b|ﬁn|العربية|end\\n'; echo at-$((6*7))",
    );
    await terminal.shows("at-42");
    const text = (await terminal.lines()).join("\n");
    for (const part of ["漢字|", "한국어|", "e\u0301|", "👩‍💻|", "🇩🇪|"]) expect(text).toContain(part);
    await terminal.isExact();
    await page.reload();
    await terminal.is("live");
    await terminal.shows("at-42");
    await terminal.isExact();
  });

  test("a paste of 1 MB arrives whole between its brackets", async () => {
    // Brackets are asked for; what comes is counted and hashed by a program that reads raw bytes.
    const reader = [
      "import sys,os,tty,hashlib",
      "tty.setraw(0)",
      "os.write(1,b'\\x1b[?2004hready-%d\\r\\n'%(6*7))",
      "b=b''",
      "while not b.endswith(b'\\x1b[201~'):",
      " b+=os.read(0,65536)",
      "t=b[6:-6]",
      "os.write(1,b'\\x1b[?2004l%d %s %s\\r\\n'%(len(t),b[:6][1:],hashlib.sha256(t).hexdigest().encode()))",
    ].join("\n");
    await terminal.line(
      `stty -echo; echo ${Buffer.from(reader).toString("base64")} | base64 -d >/tmp/reader.py; stty echo; clear; python3 /tmp/reader.py; stty sane`,
    );
    await terminal.shows("ready-42");
    const alphabet = "The quick brown fox jumps over the lazy dog: äöü 漢字 👍 $(echo no) `no` ";
    const text = alphabet.repeat(Math.ceil((1024 * 1024) / Buffer.byteLength(alphabet)));
    const bytes = Buffer.from(text);
    await terminal.paste(text);
    const hash = createHash("sha256").update(bytes).digest("hex");
    await terminal.shows(`${bytes.length} [200~ ${hash}`, 45_000);
    await terminal.line("echo after-$((6*7))");
    await terminal.shows("after-42");
    await terminal.isExact();
  });

  test("a storm of sizes ends with the last one, and the screen is right", async () => {
    await terminal.line("vim -u NONE -N -c 'set number' -c 'r!seq 1 500' -c 'normal 250G'");
    await terminal.shows("250");
    for (let step = 0; step < 40; step += 1) {
      await page.setViewportSize({ width: 500 + ((step * 137) % 700), height: 300 + ((step * 91) % 500) });
    }
    await page.setViewportSize({ width: 901, height: 603 });
    await terminal.isExact();
    const shown = await terminal.pane.locator(".term-size").innerText();
    const { cols, rows } = await terminal.info();
    expect(shown).toBe(`${cols}×${rows}`);
    await terminal.type(":q!\n");
    await terminal.line("clear; stty size");
    await terminal.shows(`${rows} ${cols}`);
    await terminal.isExact();
  });
});
