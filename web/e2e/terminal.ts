/** A terminal of the page as a person has it, and the reference that it must equal. */
import { randomUUID } from "node:crypto";
import headless from "@xterm/headless";
import { type Browser, type BrowserContext, chromium, type Locator, type Page } from "playwright-core";
import { CHROMIUM } from "./lacking";
import type { Api, Shell } from "./server";
import { until } from "./until";

// The addon takes the memory below a buffer for the buffer, which holds in Node.js when buffers share none.
Buffer.poolSize = 0;
const { UnicodeGraphemesAddon } = await import("@xterm/addon-unicode-graphemes");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
FLAGS.push("--disable-background-networking", "--disable-component-update", "--disable-sync");

/** Starts the browser. */
export async function startBrowser(...flags: string[]): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags] });
}

/** A window of its own, signed in by the cookie of a login. */
export async function window(
  browser: Browser,
  api: Api,
  origin = api.origin,
  viewport = { width: 1000, height: 640 },
): Promise<{ context: BrowserContext; page: Page }> {
  const context = await browser.newContext({ viewport });
  const [name = "", value = ""] = api.cookie.split(/=(.*)/s);
  const cookie = { name, value, url: origin.replace("http:", "https:"), secure: true, httpOnly: true };
  await context.addCookies([{ ...cookie, sameSite: "Strict" }]);
  return { context, page: await context.newPage() };
}

/** One shell in one window. */
export class Terminal {
  readonly pane: Locator;

  constructor(
    readonly page: Page,
    readonly api: Api,
    readonly session: string,
    readonly shell: string,
  ) {
    this.pane = page.locator(".term-pane").first();
  }

  /** Starts a shell in a session of its own, or in the one given. */
  static async open(
    page: Page,
    api: Api,
    origin = api.origin,
    session = `web-${randomUUID()}`,
  ): Promise<Terminal> {
    const before = new Set((await api.shells(session).catch(() => [])).map((shell) => shell.shellId));
    await page.goto(`${origin}/console/terminal?session=${session}`);
    const made = await until("the shell runs", 60_000, async () =>
      (await api.shells(session)).find((shell) => !before.has(shell.shellId)),
    );
    const terminal = new Terminal(page, api, session, made.shellId);
    await terminal.is("live");
    await terminal.shows(/[$#]\s*$/m);
    return terminal;
  }

  /** Shows a shell that runs already. */
  static async join(page: Page, api: Api, session: string, shell: string, watch = false): Promise<Terminal> {
    const access = watch ? "&access=watch" : "";
    await page.goto(`${api.origin}/console/terminal?session=${session}&shell=${shell}${access}`);
    const terminal = new Terminal(page, api, session, shell);
    await terminal.is("live");
    return terminal;
  }

  /** Waits for a state of the connection. */
  async is(
    state: "connecting" | "live" | "reconnecting" | "ended" | "takenOver" | "failed",
    ms = 30_000,
  ): Promise<void> {
    await until(`the terminal is ${state}`, ms, async () => {
      const shown = await this.pane.getAttribute("data-state", { timeout: 1000 });
      if (shown !== state) throw new Error(`it is ${shown}: ${await this.pane.innerText()}`);
      return true;
    });
  }

  /** Brings the keyboard here. */
  async focus(): Promise<void> {
    await this.pane.locator(".xterm-helper-textarea").focus();
  }

  /** Types text as a keyboard does. */
  async type(text: string): Promise<void> {
    await this.focus();
    await this.page.keyboard.type(text);
  }

  /** Types a line and Enter. */
  async line(text: string): Promise<void> {
    await this.focus();
    await this.page.keyboard.insertText(text);
    await this.page.keyboard.press("Enter");
  }

  /** Presses a key. */
  async press(key: string): Promise<void> {
    await this.focus();
    await this.page.keyboard.press(key);
  }

  /** Pastes a text, as the browser's own keys do. */
  async paste(text: string): Promise<void> {
    await this.pane.locator(".xterm-helper-textarea").evaluate((element, text) => {
      const data = new DataTransfer();
      data.setData("text/plain", text);
      element.dispatchEvent(
        new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }),
      );
    }, text);
  }

  /** Lines that the page shows. */
  async lines(): Promise<string[]> {
    const lines = await this.pane.locator(".xterm-rows > div").allTextContents();
    return lines.map(plain);
  }

  /** Waits until the screen has a text. */
  async shows(text: string | RegExp, ms = 30_000): Promise<void> {
    await until(`the screen shows ${text}`, ms, async () => {
      const screen = (await this.lines()).join("\n");
      if (typeof text === "string" ? screen.includes(text) : text.test(screen)) return true;
      throw new Error(`\n${screen}\n`);
    });
  }

  /** Bytes of the log that the page has shown. */
  async offset(): Promise<number> {
    return Number(await this.pane.getAttribute("data-offset"));
  }

  async info(): Promise<Shell> {
    return this.api.shell(this.session, this.shell);
  }

  /** Waits until the page has shown all there is, to the byte, and its screen is that of the reference terminal. */
  async isExact(ms = 30_000): Promise<void> {
    await until("the screen equals the reference, and the count is exact", ms, async () => {
      const before = await this.info();
      const lines = await this.lines();
      const offset = await this.offset();
      const reference = await paint(before, await this.api.painted(this.session, this.shell));
      const after = await this.info();
      if (before.endOffset !== after.endOffset) throw new Error("output goes on");
      if (offset !== after.endOffset) throw new Error(`${offset} bytes are shown of ${after.endOffset}`);
      const differs = reference.flatMap((line, row) =>
        line === lines[row]
          ? []
          : [`${row}: shown ${JSON.stringify(lines[row])}, reference ${JSON.stringify(line)}`],
      );
      if (differs.length > 0) throw new Error(`\n${differs.join("\n")}`);
      return true;
    });
  }
}

/** Lines of a reference terminal of the shell's size after these bytes. */
export async function paint(size: { cols: number; rows: number }, bytes: Uint8Array): Promise<string[]> {
  const terminal = new headless.Terminal({ cols: size.cols, rows: size.rows, allowProposedApi: true });
  terminal.loadAddon(new UnicodeGraphemesAddon());
  await new Promise<void>((resolve) => terminal.write(bytes, resolve));
  const buffer = terminal.buffer.active;
  const line = (row: number) => buffer.getLine(buffer.baseY + row)?.translateToString(true) ?? "";
  const lines = Array.from({ length: size.rows }, (_, row) => plain(line(row)));
  terminal.dispose();
  return lines;
}

/** A line without spaces at its end; the page writes spaces that do not break, as some programs do. */
function plain(line: string): string {
  return line.replaceAll("\u00a0", " ").trimEnd();
}
