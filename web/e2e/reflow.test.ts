/** Windows of several widths on one shell: lines are wrapped anew, and nothing is written over. */
import { describe, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import { Terminal } from "./terminal";

/** What is wider than a phone. */
const LINE = `echo ${"a-word-of-a-long-line ".repeat(6)}; ls --color /; echo joined-$((6*7))`;

describe.skipIf(LACKING)("windows of several widths", () => {
  const stage = useStage();

  for (const [from, to] of [
    [1280, 360],
    [360, 1280],
  ] as const) {
    test(`one of ${to} pixels joins the shell of one of ${from}`, async () => {
      const { context, terminal: wide } = await stage.open({ width: from, height: 700 });
      await wide.line(LINE);
      await wide.shows("joined-42");
      await wide.isExact();
      await context.close();
      const { page } = await stage.window(stage.api, { width: to, height: 700 });
      const narrow = await Terminal.join(page, stage.api, wide.session, wide.shell);
      await narrow.shows("joined-42");
      await narrow.isExact();
    });
  }

  test("one becomes as narrow as a phone", async () => {
    const { page, terminal } = await stage.open({ width: 1280, height: 700 });
    await terminal.line(LINE);
    await terminal.shows("joined-42");
    await page.setViewportSize({ width: 360, height: 700 });
    await terminal.isExact();
  });
});
