/** What draws a terminal: WebGL, by software here, and the page's elements; and how the one goes on for the other. */
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import { Terminal } from "./terminal";
import { until } from "./until";

/** Colors of three cells at the left of the second line: background, background, block. */
const COLORS = ["255,0,0", "0,255,0", "0,0,255"];
const PAINT = String.raw`clear; printf 'drawn-%d\n\033[48;2;255;0;0m \033[48;2;0;255;0m \033[0;38;2;0;0;255m█\033[0m\n' $((6*7))`;

describe.skipIf(LACKING)("drawing", () => {
  const stage = useStage({ flags: ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"] });

  /** Chooses what draws, where a person does. */
  async function choose(page: Page, name: string): Promise<void> {
    await page.goto(`${stage.server.origin}/console/settings`);
    await page.getByRole("radio", { name }).check();
  }

  /** Colors of the three cells as they are on the screen, whatever drew them. */
  async function colors(terminal: Terminal): Promise<string[]> {
    const screen = terminal.pane.locator(".xterm-screen");
    const { cols, rows } = await terminal.info();
    const picture = (await screen.screenshot()).toString("base64");
    return terminal.page.evaluate(
      async ({ picture, cols, rows }) => {
        const bytes = Uint8Array.from(atob(picture), (char) => char.charCodeAt(0));
        const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
        const canvas = new OffscreenCanvas(image.width, image.height);
        const context = canvas.getContext("2d");
        context?.drawImage(image, 0, 0);
        return [0, 1, 2].map((column) => {
          const [x, y] = [((column + 0.5) * image.width) / cols, (1.5 * image.height) / rows];
          return Array.from(context?.getImageData(x, y, 1, 1).data.slice(0, 3) ?? []).join(",");
        });
      },
      { picture, cols, rows },
    );
  }

  /** Whether a canvas of WebGL stands in for the page's elements. */
  async function isWebgl(terminal: Terminal): Promise<boolean> {
    return terminal.pane.evaluate((pane) => {
      const canvases = [...pane.querySelectorAll<HTMLCanvasElement>(".xterm-screen canvas")];
      return canvases.some((canvas) => canvas.getContext("webgl2") !== null);
    });
  }

  /** A terminal with something drawn in it. */
  async function draw(page: Page): Promise<Terminal> {
    const session = `web-drawing-${"0".repeat(30)}${Math.random().toString(36).slice(2)}`;
    await page.goto(`${stage.server.origin}/console/terminal?session=${session}`);
    const shell = await until("the shell runs", 60_000, async () => (await stage.api.shells(session))[0]);
    const terminal = new Terminal(page, stage.api, session, shell.shellId);
    await terminal.is("live");
    await terminal.line(PAINT);
    return terminal;
  }

  test("WebGL draws when it is chosen, and when its context is lost elements draw on", async () => {
    const { page } = await stage.window();
    await choose(page, "Always WebGL");
    const terminal = await draw(page);
    await until("it is drawn", 20_000, async () => (await colors(terminal)).join() === COLORS.join());
    expect(await isWebgl(terminal)).toBe(true);
    expect(await terminal.pane.locator(".xterm-rows > div").count()).toBe(0);
    // As when the driver was reset, or the machine has too many of them.
    const lost = await terminal.pane.evaluate((pane) => {
      const canvases = [...pane.querySelectorAll<HTMLCanvasElement>(".xterm-screen canvas")];
      const context = canvases.map((canvas) => canvas.getContext("webgl2")).find((found) => found !== null);
      const extension = context?.getExtension("WEBGL_lose_context");
      extension?.loseContext();
      return extension !== undefined && extension !== null;
    });
    expect(lost).toBe(true);
    await terminal.shows("drawn-42");
    await terminal.isExact();
    expect(await colors(terminal)).toEqual(COLORS);
    await terminal.line("echo on-$((6*7))");
    await terminal.shows("on-42");
    await terminal.isExact();
    expect(await colors(terminal)).toEqual(COLORS);
  });

  test("by software, the page chooses elements by itself; who wants them has them", async () => {
    for (const name of ["Automatic", "Always the page's elements"]) {
      const { page } = await stage.window();
      await choose(page, name);
      const terminal = await draw(page);
      await terminal.shows("drawn-42");
      await terminal.isExact();
      expect(await isWebgl(terminal)).toBe(false);
      expect(await colors(terminal)).toEqual(COLORS);
    }
  });
});
