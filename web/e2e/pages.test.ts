/** Each page in both themes: an audit of its accessibility, no complaint of the browser, and a picture to look at. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { beforeAll, describe, expect, test } from "vitest";
import { CLIENTS, LACKING, REPOSITORY, skipped } from "./lacking";
import { Api } from "./server";
import { useStage } from "./stage";
import { Terminal } from "./terminal";

const PICTURES = join(REPOSITORY, "web/screenshots");
const AXE = join(CLIENTS, "axe/node_modules/axe-core/axe.min.js");

/** Views, and how the first thing of a list is opened. */
const VIEWS: readonly { readonly path: string; readonly detail?: string }[] = [
  { path: "sessions", detail: "tbody th a" },
  { path: "runtimes", detail: "tbody th a" },
  { path: "shells", detail: "tbody th a" },
  { path: "logs", detail: ".plain-list a" },
  { path: "files", detail: "tbody th a" },
  { path: "keys" },
  { path: "users" },
  { path: "logins" },
  { path: "audit" },
  { path: "doctor" },
  { path: "settings" },
  { path: "unheard-of" },
];

const PASSWORD = "correct horse battery staple";

const LOOKS = [
  { name: "dark", colorScheme: "dark", viewport: { width: 1280, height: 800 } },
  { name: "light", colorScheme: "light", viewport: { width: 1280, height: 800 } },
  { name: "phone", colorScheme: "dark", viewport: { width: 360, height: 740 } },
] as const;

/** What axe finds, as far as it is told here. */
interface Finding {
  readonly id: string;
  readonly impact: string | null;
  readonly help: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[];
}

const axe = existsSync(AXE) ? readFileSync(AXE, "utf8") : undefined;

describe.skipIf(LACKING)("pages", () => {
  const stage = useStage();
  let session: string;
  let shell: string;
  let ann: Api;

  beforeAll(async () => {
    mkdirSync(PICTURES, { recursive: true });
    const { server, api } = stage;
    const { context, terminal } = await stage.open();
    ({ session, shell } = terminal);
    await terminal.line(
      "mkdir -p /mnt/workspace/src; echo 'fn main() {}' >/mnt/workspace/src/main.rs; ls --color /",
    );
    await api.call("PUT", `/sessions/${session}/shells/${shell}/title`, { title: "Build of main" });
    server.run("runtime", "create", "reviewer", "--image", "host", "--description", "Looks at changes");
    server.addUser("ann", "operator", PASSWORD);
    ann = await Api.login(server.origin, { userName: "ann", password: PASSWORD });
    await api.call("POST", "/keys", { userName: "ann", existingUser: true });
    await context.close();
  });

  const canAudit = LACKING !== undefined || axe !== undefined;
  if (!canAudit) skipped("audit of the pages' accessibility", "axe-core is not installed (run scripts/test)");

  for (const look of LOOKS) {
    test(`${look.name}: no serious finding, no complaint, and pictures`, { timeout: 240_000 }, async () => {
      const { server, browser, api } = stage;
      const { context, page } = await open(look);
      const complaints = listen(page);
      const findings: string[] = [];
      const visit = async (name: string) => {
        await settle(page);
        await page.screenshot({ path: join(PICTURES, `${name}-${look.name}.png`) });
        findings.push(...(await audit(page, name)));
        // Nothing is wider than the window.
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        if (width > look.viewport.width) findings.push(`${name}: ${width} pixels wide`);
      };
      for (const { path, detail } of VIEWS) {
        await page.goto(`${server.origin}/console/${path}`);
        await visit(path);
        const link = detail === undefined ? undefined : page.locator(detail).first();
        if (link === undefined || (await link.count()) === 0) continue;
        await link.click();
        await visit(`${path}-one`);
      }
      await page.goto(`${server.origin}/console/runtimes`);
      await page.getByRole("button", { name: "New runtime" }).click();
      await visit("runtimes-new");
      await page.keyboard.press("Escape");
      await page.getByRole("link", { name: "default", exact: true }).click();
      await page.getByRole("button", { name: "Edit terminal" }).click();
      await visit("runtimes-terminal");
      await page.keyboard.press("Escape");
      const terminal = await Terminal.join(page, api, session, shell);
      await terminal.shows(/[$#]\s*$/);
      await visit("terminal");
      for (const key of ["h", "p", "s"]) {
        await page.keyboard.press(`Alt+Shift+${key}`);
        await visit(`terminal-${{ h: "keys", p: "menu", s: "share" }[key]}`);
        await page.keyboard.press("Escape");
      }
      await context.close();
      const stranger = await browser.newContext({ colorScheme: look.colorScheme, viewport: look.viewport });
      const login = await stranger.newPage();
      await login.goto(`${server.origin}/console/login`);
      await login.locator(".login-card").waitFor();
      await login.screenshot({ path: join(PICTURES, `login-${look.name}.png`) });
      findings.push(...(await audit(login, "login")));
      // The one that asks before it signs in, where somebody is signed in and where nobody is.
      const { page: anns } = await stage.window(ann, look.viewport);
      await anns.emulateMedia({ colorScheme: look.colorScheme });
      for (const [name, shown] of [
        ["link", login],
        ["link-other", anns],
      ] as const) {
        await shown.goto(`${server.origin}/console/login#link=${server.linkToken()}`);
        await shown.getByRole("button", { name: "Sign in as root with this link" }).waitFor();
        await shown.screenshot({ path: join(PICTURES, `${name}-${look.name}.png`) });
        findings.push(...(await audit(shown, name)));
      }
      await stranger.close();
      expect({ findings, complaints }).toEqual({ findings: [], complaints: [] });
    });
  }

  async function open(look: (typeof LOOKS)[number]): Promise<{ context: BrowserContext; page: Page }> {
    const opened = await stage.window(stage.api, look.viewport);
    await opened.page.emulateMedia({ colorScheme: look.colorScheme, reducedMotion: "reduce" });
    return opened;
  }
});

/** What the browser complains about. */
function listen(page: Page): string[] {
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    // A runtime without a terminal command is answered with 404, which the browser notes.
    const isExpected = message.text().startsWith("Failed to load resource");
    if (isExpected && message.location().url.endsWith("/terminal")) return;
    complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  return complaints;
}

/** Waits until nothing is loading any more. */
async function settle(page: Page): Promise<void> {
  await page.waitForFunction(() => {
    const busy = document.querySelector(".loading[role=status]");
    return document.querySelector("h1, h2, .term") !== null && busy === null;
  });
  // Live values come with the push after the first.
  await page.waitForTimeout(400);
}

/** Serious and critical findings of axe. */
async function audit(page: Page, name: string): Promise<string[]> {
  if (axe === undefined) return [];
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run(context: object, options: object): Promise<{ violations: Finding[] }> };
    };
    // Which colors programs print is theirs.
    const { violations } = await axe.run({ exclude: [[".xterm-rows"]] }, { resultTypes: ["violations"] });
    return violations;
  });
  const serious = found.filter(({ impact }) => impact === "serious" || impact === "critical");
  return serious.map(({ id, help, nodes }) => {
    const first = nodes[0];
    return `${name}: ${id}: ${help}: ${nodes.length}: ${first?.html.slice(0, 200)} ${first?.failureSummary ?? ""}`;
  });
}
