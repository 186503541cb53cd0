/** Reports of the mouse: each form of them comes to the program byte for byte. */
import type { Page } from "playwright-core";
import { beforeEach, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import type { Terminal } from "./terminal";
import { until } from "./until";

/** Turns modes on, tells how much was typed, and in the end, by Ctrl+D, tells it in hex. */
const READER = [
  "import os,sys,tty",
  "tty.setraw(0)",
  "on,off=[''.join('\\x1b[?%s%s'%(m,c) for m in sys.argv[1:]).encode() for c in 'hl']",
  "os.write(1,b'\\x1b[2J\\x1b[Hready-%d'%(6*7)+on)",
  "b=b''",
  "while not b.endswith(b'\\x04'):",
  " b+=os.read(0,4096)",
  " os.write(1,b'\\x1b[2;1H%d bytes'%len(b))",
  "os.write(1,off+b'\\r\\nread %s.\\r\\n'%b[:-1].hex(' ').encode())",
].join("\n");

describe.skipIf(LACKING)("the mouse", () => {
  const stage = useStage();
  let page: Page;
  let terminal: Terminal;
  beforeEach(async () => {
    // Wide enough for columns whose reports are no ASCII any more.
    ({ page, terminal } = await stage.open({ width: 2200, height: 640 }));
  });

  /** Starts the program with these modes of the terminal. */
  async function listen(...modes: number[]): Promise<void> {
    const code = Buffer.from(READER).toString("base64");
    await terminal.line(
      `echo ${code} | base64 -d >/tmp/reader.py; python3 /tmp/reader.py ${modes.join(" ")}; stty sane`,
    );
    await terminal.shows("ready-42");
  }

  /** The middle of a cell; columns and rows count from 1. */
  async function at(column: number, row: number): Promise<[x: number, y: number]> {
    const box = await terminal.pane.locator(".xterm-screen").boundingBox();
    const { cols, rows } = await terminal.info();
    if (box === null || column > cols || row > rows) throw new Error(`no such cell: ${cols}x${rows}`);
    return [box.x + ((column - 0.5) * box.width) / cols, box.y + ((row - 0.5) * box.height) / rows];
  }

  /** What the program read, as text of one character a byte. */
  async function read(): Promise<string> {
    await terminal.press("Control+d");
    const log = await until("the program tells what it read", 20_000, async () => {
      const text = (await stage.api.log(terminal.session, terminal.shell)).bytes.toString("latin1");
      return /read ([0-9a-f ]*)\.\r/.exec(text) ?? undefined;
    });
    return Buffer.from((log[1] ?? "").replaceAll(" ", ""), "hex").toString("latin1");
  }

  const old = (button: number, column: number, row: number) =>
    `\x1b[M${String.fromCharCode(32 + button, 32 + column, 32 + row)}`;

  test("the old form has raw bytes, also above 0x7f, and ends where a byte ends", async () => {
    await listen(1000);
    let expected = "";
    for (const [column, row] of [
      [1, 1],
      [95, 3],
      [96, 4],
      [150, 7],
      [223, 9],
    ] as const) {
      await page.mouse.click(...(await at(column, row)));
      expected += old(0, column, row) + old(3, column, row);
    }
    // What is beyond has no byte, and so no report.
    await page.mouse.click(...(await at(224, 9)));
    expect(await read()).toBe(expected);
  });

  test("the other buttons and the wheel have their own numbers", async () => {
    await listen(1000);
    const place = await at(120, 5);
    await page.mouse.click(...place, { button: "right" });
    await page.mouse.click(...place, { button: "middle" });
    await page.mouse.wheel(0, -100);
    // Browsers tell of wheels when they draw.
    await until("the wheel is told", 10_000, async () => {
      const count = /^(\d+) bytes/m.exec((await terminal.lines()).join("\n"));
      return Number(count?.[1]) > 24;
    });
    const bytes = await read();
    const clicks = old(2, 120, 5) + old(3, 120, 5) + old(1, 120, 5) + old(3, 120, 5);
    expect(bytes.slice(0, clicks.length)).toBe(clicks);
    const wheel = bytes.slice(clicks.length);
    expect(wheel.length).toBeGreaterThan(0);
    expect(wheel.replaceAll(old(64, 120, 5), "")).toBe("");
  });

  test("a drag is told cell by cell, and only while a button is held", async () => {
    await listen(1002);
    await page.mouse.move(...(await at(100, 5)));
    await page.mouse.down();
    await page.mouse.move(...(await at(101, 5)));
    // Within the same cell there is no news.
    const [x, y] = await at(101, 5);
    await page.mouse.move(x + 1, y + 1);
    await page.mouse.move(...(await at(140, 8)));
    await page.mouse.up();
    await page.mouse.move(...(await at(10, 2)));
    const drag = old(32, 101, 5) + old(32, 140, 8);
    expect(await read()).toBe(old(0, 100, 5) + drag + old(3, 140, 8));
  });

  test("the form of numbers reaches every column", async () => {
    await listen(1002, 1006);
    await page.mouse.move(...(await at(230, 11)));
    await page.mouse.down();
    await page.mouse.move(...(await at(231, 12)));
    await page.mouse.up();
    await page.keyboard.down("Control");
    await page.mouse.click(...(await at(7, 3)));
    await page.keyboard.up("Control");
    expect(await read()).toBe("\x1b[<0;230;11M\x1b[<32;231;12M\x1b[<0;231;12m\x1b[<16;7;3M\x1b[<16;7;3m");
  });

  test("a program that ends gives the mouse back: text is selected again", async () => {
    await listen(1000, 1006);
    expect(await read()).toBe("");
    await terminal.line("clear; echo selectable-$((6*7))");
    await terminal.shows("selectable-42");
    await page.mouse.dblclick(...(await at(3, 1)));
    await until("the word is selected", 10_000, async () => {
      const shown = await terminal.pane.locator(".xterm-selection div").count();
      return shown > 0;
    });
    expect((await stage.api.log(terminal.session, terminal.shell)).bytes.toString("latin1")).not.toContain(
      "[<0;3;1",
    );
  });
});
