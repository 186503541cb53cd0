/**
 * Takes a picture of every page of a running server, in dark, in light and as on a phone, so that a person can look:
 * `node e2e/run.mjs screenshots URL [FOLDER]`. URL is a one-time link of `clamshell console` or a server's address where no
 * login is asked for; pictures go to `screenshots/`, which git ignores. Says what the browser complained about.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";

const LOOKS = [
  { name: "dark", colorScheme: "dark", viewport: { width: 1280, height: 800 } },
  { name: "light", colorScheme: "light", viewport: { width: 1280, height: 800 } },
  { name: "phone", colorScheme: "dark", viewport: { width: 390, height: 844 } },
] as const;

const VIEWS = [
  "sessions",
  "runtimes",
  "shells",
  "logs",
  "files",
  "keys",
  "users",
  "logins",
  "audit",
  "doctor",
  "settings",
  "unheard-of",
] as const;

/** Links that lead to the page of one thing, by the list that they are in. */
const DETAILS: Partial<Record<(typeof VIEWS)[number], string>> = {
  sessions: "tbody th a",
  runtimes: "tbody th a",
  shells: "tbody th a",
  logs: ".plain-list a",
  files: "tbody th a",
};

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
args.push("--disable-background-networking", "--disable-component-update", "--disable-sync");

async function main(url: string, folder: string): Promise<number> {
  await mkdir(folder, { recursive: true });
  const executablePath = "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args });
  try {
    return await lookAtAll(browser, new URL(url), folder);
  } finally {
    await browser.close();
  }
}

async function lookAtAll(browser: Browser, url: URL, folder: string): Promise<number> {
  const first = await browser.newContext();
  const page = await first.newPage();
  await page.goto(url.href);
  if (url.hash !== "") await page.getByRole("button", { name: "with this link" }).click();
  // The first view shows that the login was taken.
  await page.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached", timeout: 20_000 });
  const state = await first.storageState();
  let complaints = 0;
  for (const look of LOOKS) {
    const { name, colorScheme, viewport } = look;
    const context = await browser.newContext({ storageState: state, colorScheme, viewport });
    const shown = await context.newPage();
    shown.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      // A runtime without a terminal command is answered with 404, which the browser notes.
      if (
        message.text().startsWith("Failed to load resource") &&
        message.location().url.endsWith("/terminal")
      )
        return;
      complaints += 1;
      say(`${name}: ${message.text()}`);
    });
    shown.on("pageerror", (error) => {
      complaints += 1;
      say(`${name}: ${error.message}`);
    });
    for (const view of VIEWS) {
      await shown.goto(`${url.origin}/console/${view}`);
      await shoot(shown, join(folder, `${view}-${name}.png`));
      const detail = DETAILS[view];
      const link = detail === undefined ? null : shown.locator(detail).first();
      if (link === null || (await link.count()) === 0) continue;
      await link.click();
      await shoot(shown, join(folder, `${view}-one-${name}.png`));
    }
    await context.close();
  }
  const stranger = await browser.newContext({ colorScheme: "dark" });
  const login = await stranger.newPage();
  await login.goto(`${url.origin}/console/login`);
  await shoot(login, join(folder, "login-dark.png"));
  await stranger.close();
  say(`Pictures are in ${folder}; the browser complained ${complaints} times`);
  return complaints;
}

/** Waits until nothing is loading any more, and takes the picture. */
async function shoot(page: Page, path: string): Promise<void> {
  await page.waitForFunction(() => {
    const busy = document.querySelector(".loading[role=status]");
    return document.querySelector("h1, h2, .login-card") !== null && busy === null;
  });
  // Live values come with the push after the first.
  await page.waitForTimeout(400);
  await page.screenshot({ path });
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

const [url, folder = "screenshots"] = process.argv.slice(2);
if (url === undefined) {
  say("usage: node e2e/run.mjs screenshots URL [FOLDER]");
  process.exitCode = 2;
} else {
  process.exitCode = (await main(url, folder)) === 0 ? 0 : 1;
}
