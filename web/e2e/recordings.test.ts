/** Recordings of terminals, as the page plays and saves them: small ones to the end, and one of a gigabyte. */
import { createReadStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import { until } from "./until";

/** How much larger the server may be while it sends a recording, in KiB. */
const GROWTH_KIB_MAX = 32 * 1024;

describe.skipIf(LACKING)("recordings", () => {
  // More than is kept by default, so that all of it is there in the end.
  const stage = useStage({ configuration: () => "[shells]\nlog_mib = 2048\n" });

  /** The memory that the server's process has for itself and its share of what it shares, in KiB. */
  function pss(): number {
    const text = readFileSync(`/proc/${stage.server.pid}/smaps_rollup`, "utf8");
    return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1]);
  }

  /** Bytes of output in a recording, and how many lines it has; each line must be an event. */
  async function count(path: string): Promise<{ bytes: number; lines: number; times: boolean }> {
    let [bytes, lines, last, times] = [0, 0, 0, true];
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: 0 })) {
      lines += 1;
      const event: unknown = JSON.parse(line);
      if (lines === 1) {
        expect(event).toMatchObject({ version: 2 });
        continue;
      }
      const [at, kind, data] = event as [number, string, string];
      times &&= at >= last;
      last = at;
      if (kind === "o") bytes += Buffer.byteLength(data);
    }
    return { bytes, lines, times };
  }

  test("a recording is played to its end, and back", async () => {
    const { page, terminal } = await stage.open();
    await terminal.line("clear; echo first-$((6*7))");
    await terminal.shows("first-42");
    await terminal.line("clear; echo second-$((6*7))");
    await terminal.shows("second-42");
    await page.goto(
      `${stage.server.origin}/console/shells/default/DEFAULT/${terminal.session}/${terminal.shell}`,
    );
    const player = page.getByRole("region", { name: "Player" });
    const screen = player.locator(".xterm-rows");
    await player.getByRole("slider", { name: "Position" }).press("End");
    await until("the end is shown", 20_000, async () => (await screen.innerText()).includes("second-42"));
    await player.getByRole("slider", { name: "Position" }).press("Home");
    await until("the beginning is shown", 20_000, async () => {
      const text = await screen.innerText();
      return !text.includes("second-42") && !text.includes("first-42");
    });
  });

  test("one of a gigabyte is saved whole while the server stays small, and the page says that it is too large to play", {
    timeout: 580_000,
  }, async () => {
    const { page, terminal, context } = await stage.open();
    // Some of it are characters of several bytes, which events must not cut.
    await terminal.line(
      "clear; yes 'A line of text, 漢字 and 👍 in it, as many print them.' | head -c 1000000000; exit",
    );
    await until("it is on its way", 20_000, async () => (await terminal.info()).endOffset > 1_000_000);
    // With nobody there it runs as fast as it can.
    await page.close();
    const { session, shell } = terminal;
    const end = await until("all of it is kept", 300_000, async () => {
      const { state, endOffset } = await stage.api.shell(session, shell);
      return state === "Ended" && endOffset;
    });
    expect(end).toBeGreaterThan(1_000_000_000);
    expect((await stage.api.shell(session, shell)).startOffset).toBe(0);

    const other = await context.newPage();
    await other.goto(`${stage.server.origin}/console/shells/default/DEFAULT/${session}/${shell}`);
    await other
      .getByText(/The recording is larger than .*: download it to play it/)
      .waitFor({ timeout: 60_000 });

    const before = pss();
    let most = before;
    const watch = setInterval(() => {
      most = Math.max(most, pss());
    }, 50);
    const [download] = await Promise.all([
      other.waitForEvent("download"),
      other.getByRole("link", { name: "Download" }).click(),
    ]);
    const path = await download.path();
    clearInterval(watch);
    expect(download.suggestedFilename()).toBe(`${shell}.cast`);
    expect(most - before, "the server does not hold it").toBeLessThan(GROWTH_KIB_MAX);
    const { bytes, times } = await count(path);
    expect(bytes).toBe(end);
    expect(times, "time never goes back").toBe(true);
    process.stdout.write(`a recording of ${bytes} bytes: the server grew by ${most - before} KiB\n`);
  });
});
