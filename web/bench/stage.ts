/** What the measurements share: our server, the peer, and one browser with a page for each terminal. */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Browser, type Cookie, type Tab } from "./browser";
import { type Program, run, start } from "./processes";

/** Everything that runs during the measurements. */
export interface Stage {
  readonly browser: Browser;
  readonly server: Program;
  readonly peer: Program;
  /** Address of our server. */
  readonly ours: string;
  /** Address of the peer. */
  readonly theirs: string;
  /** An interpreter, and its script that empties a PTY. */
  readonly python: string;
  readonly drain: string;
  /** Cookies of a signed-in browser. */
  readonly login: readonly Cookie[];
  end(): Promise<void>;
}

/** Starts everything. `program` is ours; `clients` the folder of scripts/install-test-clients. */
export async function setUp(program: string, clients: string): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), "clamshell-bench-"));
  const data = join(folder, "data");
  const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  const ends: (() => Promise<unknown>)[] = [];
  const end = async () => {
    for (const each of ends.reverse()) await each().catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const python = join(clients, "terminado/python/bin/python");
    const args = [here("./peer.py"), here("./peer.html"), here("../node_modules")];
    const [peer, port] = await start(python, args, /^(\d+)$/m);
    ends.push(() => peer.stop());
    const serve = ["serve", "--data-dir", data, "--listen", "127.0.0.1:0"];
    const [server, ours] = await start(program, serve, /endpoint="(http:[^"]+)"/);
    ends.push(() => endSandboxes(data));
    ends.push(() => server.stop());
    const browser = await Browser.start();
    ends.push(() => browser.close());
    const link = (await run(program, ["console", "--data-dir", data])).trim();
    const tab = await browser.open([]);
    await tab.goto(link);
    await tab.waitFor("the link's button", () => {
      const buttons = [...document.querySelectorAll("button")];
      const found = buttons.find((button) => button.textContent?.endsWith("with this link"));
      if (found?.disabled === false) found.click();
      return found?.disabled === false;
    });
    await tab.waitFor("the menu", () => document.querySelector("nav") !== null);
    const login = await tab.cookies();
    await tab.close();
    return {
      browser,
      server,
      peer,
      ours,
      theirs: `http://127.0.0.1:${port}`,
      python,
      drain: here("./drain.py"),
      login,
      end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Ends the sandboxes, which go on without their server. */
async function endSandboxes(data: string): Promise<void> {
  for (const session of await readdir(join(data, "sessions"))) {
    const file = join(data, "sessions", session, "run/keeper.json");
    const state = JSON.parse(await readFile(file, "utf8").catch(() => "{}")) as {
      keeper?: { pid: number };
      exit?: unknown;
    };
    if (!state.keeper || state.exit) continue;
    const { pid } = state.keeper;
    process.kill(pid, "SIGTERM");
    const deadline = performance.now() + 5000;
    while (existsSync(`/proc/${pid}`) && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** A tab of its own browser profile, its cache empty. */
export function freshPage(stage: Stage, isOurs: boolean): Promise<Tab> {
  return stage.browser.open(isOurs ? stage.login : []);
}

/** A session id that was never used. */
export function newSession(): string {
  return `web-${crypto.randomUUID()}`;
}

/** Address of the page that shows a shell, or makes one in the session. */
export function terminalUrl(stage: Stage, session: string, shell?: string): string {
  const query = new URLSearchParams({ runtime: "default", qualifier: "DEFAULT", session });
  if (shell !== undefined) query.set("shell", shell);
  return `${stage.ours}/console/terminal?${query}`;
}

/** Opens a page with a new shell of ours in a new session, live and focused. */
export async function openOurs(stage: Stage, prepare?: (page: Tab) => Promise<void>): Promise<Tab> {
  const page = await freshPage(stage, true);
  await prepare?.(page);
  await page.goto(terminalUrl(stage, newSession()));
  await ready(page);
  return page;
}

/** Opens a page with a terminal of the peer. */
export async function openPeer(
  stage: Stage,
  name: string,
  prepare?: (page: Tab) => Promise<void>,
): Promise<Tab> {
  const page = await freshPage(stage, false);
  await prepare?.(page);
  await page.goto(`${stage.theirs}/terminal/${name}`);
  await ready(page);
  return page;
}

/** Waits until a terminal is live. */
export async function live(page: Tab): Promise<void> {
  await page.waitFor("a live terminal", () => document.querySelector("[data-state=live]") !== null);
}

/** Gives the keyboard to the terminal. */
export async function focus(page: Tab): Promise<void> {
  await page.evaluate(() => document.querySelector<HTMLElement>(".xterm-helper-textarea")?.focus());
}

/** Waits until a terminal is live, shows a prompt and has the keyboard. */
async function ready(page: Tab): Promise<void> {
  await live(page);
  await page.waitFor("a prompt", () =>
    /[#$] *$/.test((document.querySelector(".xterm-rows")?.textContent ?? "").trimEnd()),
  );
  await focus(page);
}

/** Gives a page of the peer's the columns and rows of ours, so that both paint as much. */
export async function sameSize(ours: Tab, theirs: Tab): Promise<void> {
  const text = await ours.evaluate(() => document.querySelector(".term-size")?.textContent ?? "");
  const [cols = 80, rows = 24] = text.split("×").map(Number);
  await theirs.evaluate(([width = 80, height = 24]) => window.terminal?.resize(width, height), [cols, rows]);
}

declare global {
  interface Window {
    /** The terminal of the peer's page. */
    terminal?: { write(data: Uint8Array, done: () => void): void; resize(cols: number, rows: number): void };
  }
}

/** Types a line into the terminal of a page. */
export async function typeLine(page: Tab, line: string): Promise<void> {
  await page.bringToFront();
  await page.insertText(line);
  await page.press("Enter");
}

/** Types a line and waits until the screen shows the text, which the line itself must not have. */
export async function typeUntil(page: Tab, line: string, text: string): Promise<void> {
  await typeLine(page, line);
  await page.waitFor(
    text,
    (wanted) => document.querySelector(".xterm-rows")?.textContent?.includes(wanted ?? "") ?? false,
    text,
  );
}

/** Header of the login, for clients without a page. */
export function cookieOf(stage: Stage): string {
  return stage.login.map(({ name, value }) => `${name}=${value}`).join("; ");
}
