/** Output without end, and much of it: the page answers, and nothing is lost. */
import type { Page } from "playwright-core";
import { beforeEach, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import type { Terminal } from "./terminal";
import { until } from "./until";

/** How long the page may be busy at a stretch. */
const BUSY_MS_MAX = 500;

describe.skipIf(LACKING)("flood", () => {
  const stage = useStage();
  let page: Page;
  let terminal: Terminal;
  beforeEach(async () => {
    ({ page, terminal } = await stage.open());
  });

  /** Measures, within the page, the longest time between two turns of its timers; call the result to end. */
  async function watchTurns(): Promise<() => Promise<number>> {
    await page.evaluate(() => {
      let [last, longest] = [performance.now(), 0];
      setInterval(() => {
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
        document.documentElement.dataset["longest"] = String(longest);
      }, 10);
    });
    return async () => Number(await page.locator("html").getAttribute("data-longest"));
  }

  /** Lets a program print for three seconds, and ends it. */
  async function interrupt(prepare: string, command: string): Promise<void> {
    await terminal.line(`${prepare}; clear; echo prepared-$((6*7))`);
    await terminal.shows("prepared-42");
    const longest = await watchTurns();
    const before = await terminal.offset();
    await terminal.line(command);
    await until("three seconds of output are shown", 20_000, async () => {
      await page.waitForTimeout(3000);
      return (await terminal.offset()) > before + 100_000;
    });
    const pressed = Date.now();
    await terminal.press("Control+c");
    await terminal.shows(/\^C[\s\S]*[$#]\s*$/, 2000);
    const took = Date.now() - pressed;
    const shown = (await terminal.offset()) - before;
    process.stdout.write(`${command}: the prompt is back after ${took} ms, ${shown} bytes were shown\n`);
    expect(took).toBeLessThan(2000);
    expect(await longest(), "the page answered all the while").toBeLessThan(BUSY_MS_MAX);
    await terminal.line("rm -f /tmp/large; echo back-$((6*7))");
    await terminal.shows("back-42");
    await terminal.isExact();
  }

  test("yes for three seconds, then Ctrl+C: the prompt is back within two seconds", async () => {
    await interrupt("true", "yes");
  });

  test("a file of a gigabyte for three seconds, then Ctrl+C: the prompt is back within two seconds", async () => {
    const line = "Each line of this file says the same, and ends here.";
    await interrupt(`yes '${line}' | head -c 1000000000 >/tmp/large`, "cat /tmp/large");
  });

  test("50 MB of random text are shown whole", { timeout: 240_000 }, async () => {
    const longest = await watchTurns();
    const before = await terminal.offset();
    await terminal.line("clear; head -c 50M /dev/urandom | base64; echo whole-$((6*7))");
    await terminal.shows("whole-42", 200_000);
    await terminal.isExact();
    // Base64 has a line break after 76 characters, and the terminal makes two bytes of it.
    const characters = Math.ceil((50 * 1024 * 1024) / 3) * 4;
    const least = characters + 2 * Math.ceil(characters / 76);
    const shown = (await terminal.offset()) - before;
    expect(shown).toBeGreaterThan(least);
    expect(shown).toBeLessThan(least + 1000);
    expect(await longest(), "the page answered all the while").toBeLessThan(BUSY_MS_MAX);
  });
});
