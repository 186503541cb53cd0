/** Pictures in the output of programs: sixel, and iTerm's; and what becomes of those that are too large. */
import { deflateSync } from "node:zlib";
import { beforeEach, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import type { Terminal } from "./terminal";
import { until } from "./until";

type Color = readonly [red: number, green: number, blue: number];

/** A sixel picture of one color; each channel is 0 or 255. */
function sixel(width: number, height: number, color: Color): Buffer {
  const percent = color.map((channel) => Math.round((channel * 100) / 255)).join(";");
  const rows = Array.from({ length: height / 6 }, () => `#1!${width}~`).join("-");
  return Buffer.from(`\x1bPq"1;1;${width};${height}#1;2;${percent}${rows}\x1b\\`);
}

/** A PNG file of one color. */
function png(width: number, height: number, color: Color): Buffer {
  const chunk = (name: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  const row = Buffer.concat([Buffer.alloc(1), ...Array.from({ length: width }, () => Buffer.from(color))]);
  const rows = Buffer.concat(Array.from({ length: height }, () => row));
  const start = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const parts = [chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([start, ...parts]);
}

function crc(bytes: Buffer): number {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

/** iTerm's sequence with a file in it. */
function inline(file: Buffer, options = ""): Buffer {
  return Buffer.from(`\x1b]1337;File=inline=1;size=${file.length}${options}:${file.toString("base64")}\x07`);
}

describe.skipIf(LACKING)("pictures", () => {
  const stage = useStage();
  let terminal: Terminal;
  beforeEach(async () => {
    ({ terminal } = await stage.open());
    await terminal.line("PS1='$ '; cd /mnt/workspace; clear");
  });

  /** Puts bytes into a file of the session and prints them on a clear screen, with words before and after. */
  async function print(bytes: Buffer): Promise<void> {
    const path = `/clamshell/v1/sessions/${terminal.session}/files/content?path=/picture`;
    const put = await stage.api.ask("PUT", path, new Uint8Array(bytes));
    if (!put.ok) throw new Error(`${put.status} ${await put.text()}`);
    await terminal.line("clear; cat picture; echo; echo after-$((6*7))");
    await terminal.shows("after-42");
  }

  /** How many pixels the pictures of the screen have, by color. */
  async function pixels(): Promise<Record<string, number>> {
    return terminal.pane.evaluate((pane) => {
      const counts: Record<string, number> = {};
      for (const canvas of pane.querySelectorAll<HTMLCanvasElement>("canvas.xterm-image-layer")) {
        const { width, height } = canvas;
        const data = canvas.getContext("2d")?.getImageData(0, 0, width, height).data ?? [];
        for (let at = 0; at < data.length; at += 4) {
          if (data[at + 3] === 0) continue;
          const color = `${data[at]},${data[at + 1]},${data[at + 2]}`;
          counts[color] = (counts[color] ?? 0) + 1;
        }
      }
      return counts;
    });
  }

  test("a sixel picture is shown, pixel for pixel", async () => {
    await print(sixel(120, 60, [255, 0, 0]));
    const shown = await until("it is drawn", 20_000, async () => {
      const found = await pixels();
      return Object.keys(found).length > 0 ? found : undefined;
    });
    expect(shown).toEqual({ "255,0,0": 120 * 60 });
    await terminal.line("clear; echo cleared-$((6*7))");
    await terminal.shows("cleared-42");
    await until("it is gone", 20_000, async () => Object.keys(await pixels()).length === 0);
  });

  test("iTerm's pictures are shown, pixel for pixel", async () => {
    await print(inline(png(90, 40, [0, 0, 255])));
    const shown = await until("it is drawn", 20_000, async () => {
      const found = await pixels();
      return Object.keys(found).length > 0 ? found : undefined;
    });
    expect(shown).toEqual({ "0,0,255": 90 * 40 });
  });

  test("a picture above four megapixels is not shown, whatever its form, and text goes on", async () => {
    for (const large of [
      sixel(2400, 1800, [255, 0, 0]),
      inline(png(2400, 1800, [0, 0, 255])),
      // A file says what it likes of its size: the pixels count.
      inline(png(2400, 1800, [0, 0, 255]), ";width=10px;height=10px"),
      Buffer.from('\x1bPq"1;1;100000;100000#1;2;100;0;0#1~\x1b\\'),
    ]) {
      await print(large);
      await terminal.line("echo on-$((6*7))");
      await terminal.shows("on-42");
      expect(await pixels()).toEqual({});
    }
    // One that keeps the limit, if barely, is shown as far as it fits onto the screen.
    await print(sixel(2040, 2040, [0, 255, 0]));
    await until("it is drawn", 20_000, async () => ((await pixels())["0,255,0"] ?? 0) > 100_000);
  });

  test("many pictures together stay within the room for them: the oldest go", async () => {
    // Each has 1.44 megapixels, which are 5.76 MB: eight do not fit into 32.
    const one = sixel(1200, 1200, [0, 255, 0]);
    await print(Buffer.concat(Array.from({ length: 8 }, () => one)));
    const green = async () => (await pixels())["0,255,0"] ?? 0;
    await until("the newest is drawn", 20_000, async () => (await green()) > 100_000);
    await until("the oldest is not there", 20_000, async () => {
      await terminal.press("Shift+PageUp");
      return (await green()) === 0;
    });
    await terminal.line("echo on-$((6*7))");
    await terminal.shows("on-42");
    expect(await green()).toBeGreaterThan(100_000);
  });
});
