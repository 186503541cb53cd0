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

  /**
   * Measures, within the page, the time from Ctrl+C to the prompt; call the result to have it. Whoever drives the browser
   * is sent a copy of each byte of the network, and in a flood has news of the page long after it happened.
   */
  async function watchPrompt(): Promise<() => Promise<number>> {
    await terminal.pane.evaluate((pane) => {
      const html = document.documentElement;
      delete html.dataset["prompt"];
      const onKey = (key: KeyboardEvent) => {
        if (!key.ctrlKey || key.key !== "c") return;
        removeEventListener("keydown", onKey, true);
        const observer = new MutationObserver(() => {
          const rows = [...pane.querySelectorAll(".xterm-rows > div")];
          const text = rows.map((row) => row.textContent).join("\n");
          if (!/\^C[\s\S]*[$#]\s*$/.test(text)) return;
          observer.disconnect();
          html.dataset["prompt"] = String(performance.now() - key.timeStamp);
        });
        observer.observe(pane, { subtree: true, childList: true, characterData: true });
      };
      addEventListener("keydown", onKey, true);
    });
    return () =>
      until("the prompt is back", 30_000, async () => {
        const shown = await page.locator("html").getAttribute("data-prompt");
        return shown === null ? undefined : Number(shown);
      });
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
    const back = await watchPrompt();
    await terminal.press("Control+c");
    const took = await back();
    const shown = (await terminal.offset()) - before;
    process.stdout.write(
      `${command}: the prompt is back after ${Math.round(took)} ms, ${shown} bytes were shown\n`,
    );
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
