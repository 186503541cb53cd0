/** What the measurements share: our server, the peer, and one browser with a page for each terminal. */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { type Program, run, start } from "./processes";

const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Both pages have the same room for the terminal, more or less. */
const VIEWPORT = { width: 1000, height: 700 };

/** Everything that runs during the measurements. */
export interface Stage {
  readonly browser: Browser;
  readonly server: Program;
  readonly peer: Program;
  /** Address of our server. */
  readonly ours: string;
  /** Address of the peer. */
  readonly theirs: string;
  /** Cookies of a signed-in browser. */
  readonly login: Awaited<ReturnType<BrowserContext["storageState"]>>;
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
    const executablePath = process.env["CLAMSHELL_CHROMIUM"] ?? "/usr/bin/chromium";
    const browser = await chromium.launch({ executablePath, args: ARGS });
    ends.push(() => browser.close());

    const link = (await run(program, ["console", "--data-dir", data])).trim();
    const context = await browser.newContext({ viewport: VIEWPORT });
    const page = await context.newPage();
    await page.goto(link);
    await page.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached", timeout: 20_000 });
    const login = await context.storageState();
    await context.close();
    return { browser, server, peer, ours, theirs: `http://127.0.0.1:${port}`, login, end };
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

/** A page of its own browser profile, its cache empty. */
export async function freshPage(stage: Stage, isOurs: boolean): Promise<Page> {
  const context = await stage.browser.newContext({
    viewport: VIEWPORT,
    ...(isOurs ? { storageState: stage.login } : {}),
  });
  return context.newPage();
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
export async function openOurs(stage: Stage, prepare?: (page: Page) => Promise<void>): Promise<Page> {
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
  prepare?: (page: Page) => Promise<void>,
): Promise<Page> {
  const page = await freshPage(stage, false);
  await prepare?.(page);
  await page.goto(`${stage.theirs}/terminal/${name}`);
  await ready(page);
  return page;
}

/** Waits until a terminal is live, shows a prompt and has the keyboard. */
async function ready(page: Page): Promise<void> {
  await page.locator("[data-state=live]").waitFor({ timeout: 20_000 });
  await page.waitForFunction(() =>
    /[#$] *$/.test((document.querySelector(".xterm-rows")?.textContent ?? "").trimEnd()),
  );
  await page.locator(".xterm-helper-textarea").focus();
}

/** Gives a page of the peer's the columns and rows of ours, so that both paint as much. */
export async function sameSize(ours: Page, theirs: Page): Promise<void> {
  const text = (await ours.locator(".term-size").first().textContent()) ?? "";
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
export async function typeLine(page: Page, line: string): Promise<void> {
  await page.bringToFront();
  await page.keyboard.insertText(line);
  await page.keyboard.press("Enter");
}

/** Types a line and waits until the screen shows the text, which the line itself must not have. */
export async function typeUntil(page: Page, line: string, text: string): Promise<void> {
  await typeLine(page, line);
  await page.waitForFunction(
    (wanted) => document.querySelector(".xterm-rows")?.textContent?.includes(wanted) ?? false,
    text,
  );
}

/** Header of the login, for clients without a page. */
export function cookieOf(stage: Stage): string {
  return stage.login.cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
}
