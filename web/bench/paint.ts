/** From the start of the navigation to the first content of a terminal, and what the page weighs on the way. */
import { get } from "node:http";
import { gunzipSync } from "node:zlib";
import type { Tab } from "./browser";
import { goal, report, Samples, say } from "./samples";
import { focus, freshPage, live, newSession, openPeer, type Stage, terminalUrl, typeUntil } from "./stage";

const ROUNDS = 12;
const FIRST_PAINT_MS = 300;
const PAGE_BYTES = 400_000;
/** What the shells have on their screens; typed in two parts. */
const MARK = "painted-here";

/** Measures first paint. Servers are warm and shells run; each round has a browser profile of its own. */
export async function paint(stage: Stage): Promise<void> {
  const session = newSession();
  const ours = await freshPage(stage, true);
  await ours.goto(terminalUrl(stage, session));
  await live(ours);
  await focus(ours);
  await typeUntil(ours, "clear; echo painted-''here", MARK);
  const shell = await shellOf(ours, session);
  const theirs = await openPeer(stage, "paint");
  await typeUntil(theirs, "clear; echo painted-''here", MARK);

  const again = new Samples("clamshell: a running shell");
  const peer = new Samples("terminado: a running shell");
  const fresh = new Samples("clamshell: a new shell of the session");
  for (let round = -1; round < ROUNDS; round += 1) {
    const times = [
      await firstContent(stage, true, terminalUrl(stage, session, shell), MARK),
      await firstContent(stage, false, `${stage.theirs}/terminal/paint`, MARK),
      await firstContent(stage, true, terminalUrl(stage, session), "", session),
    ];
    if (round < 0) continue;
    for (const [at, samples] of [again, peer, fresh].entries()) samples.add(times[at] ?? Number.NaN);
  }
  report("navigation to the first content of the terminal, cold cache", "ms", [again, peer, fresh]);
  const p50 = again.percentile(50);
  goal(`first paint below ${FIRST_PAINT_MS} ms: ${p50.toFixed(0)} ms`, p50 < FIRST_PAINT_MS);
  for (const page of [ours, theirs]) await page.close();
}

/** Milliseconds from the start of a navigation until a terminal shows this text (any, if empty). */
async function firstContent(
  stage: Stage,
  isOurs: boolean,
  url: string,
  text: string,
  ended?: string,
): Promise<number> {
  const page = await freshPage(stage, isOurs);
  try {
    await page.addInitScript((wanted) => {
      const noted = new Promise<number>((done) => {
        const observer = new MutationObserver(() => {
          const shown = document.querySelector(".xterm-rows")?.textContent?.trim() ?? "";
          if (shown === "" || !shown.includes(wanted)) return;
          observer.disconnect();
          // The frame in which it is painted ends before the next task.
          const channel = new MessageChannel();
          channel.port1.onmessage = () => done(performance.now());
          requestAnimationFrame(() => channel.port2.postMessage(0));
        });
        observer.observe(document, { subtree: true, childList: true, characterData: true });
      });
      window.benchPainted = () => noted;
    }, text);
    await page.goto(url);
    const time = await page.evaluate(() => window.benchPainted?.());
    if (ended !== undefined) await end(page, ended);
    return time ?? Number.NaN;
  } finally {
    await page.close();
  }
}

declare global {
  interface Window {
    /** Milliseconds since the navigation began, once there is something to see. */
    benchPainted?: () => Promise<number>;
  }
}

/** The newest shell of a session. */
async function shellOf(page: Tab, session: string): Promise<string> {
  const ids = await page.evaluate(async (id) => {
    const query = "runtime=default&qualifier=DEFAULT";
    const headers = { "X-Clamshell-Console": "1" };
    const response = await fetch(`/clamshell/v1/sessions/${id}/shells?${query}`, { headers });
    const { shells } = (await response.json()) as { shells: { shellId: string; state: string }[] };
    return shells.filter((shell) => shell.state !== "Ended").map((shell) => shell.shellId);
  }, session);
  const id = ids[0];
  if (id === undefined) throw new Error("the session has no shell");
  return id;
}

/** Ends the shell that a page made: a session has ten at most. */
async function end(page: Tab, session: string): Promise<void> {
  await page.evaluate(async (id) => {
    const stored = Object.entries(localStorage).find(([key]) => key.startsWith("clamshell.terminals."));
    const shell = /"shell":"([^"]+)"/.exec(stored?.[1] ?? "")?.[1];
    const query = "runtime=default&qualifier=DEFAULT";
    const headers = { "X-Clamshell-Console": "1" };
    const url = `/clamshell/v1/sessions/${id}/shells/${shell}?${query}`;
    const response = await fetch(url, { method: "DELETE", headers });
    if (!response.ok) throw new Error(`the shell ${shell} was not ended: ${response.status}`);
  }, session);
}

/** Measures the page's bytes on the wire. */
export async function size(stage: Stage): Promise<void> {
  const sizes = await crawl(stage.ours);
  const total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);

  const page = await freshPage(stage, true);
  await page.goto(terminalUrl(stage, newSession()));
  await live(page);
  // What is fetched when nothing else is to be done counts as well.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const loaded = await page.evaluate(() =>
    [
      "/console",
      ...performance.getEntriesByType("resource").map((entry) => new URL(entry.name).pathname),
    ].filter((path) => path === "/console" || path.startsWith("/console/assets/")),
  );
  await page.close();
  const terminal = [...new Set(loaded)].reduce((sum, path) => sum + (sizes.get(path) ?? Number.NaN), 0);

  say("\n## the page, as the server sends it (gzip)");
  say(`${"all of it".padEnd(40)} ${kilobytes(total)} in ${sizes.size} files`);
  say(`${"loaded for a terminal".padEnd(40)} ${kilobytes(terminal)} in ${new Set(loaded).size} files`);
  for (const [path, bytes] of [...sizes].toSorted((a, b) => b[1] - a[1]).slice(0, 6)) {
    say(`  ${path.slice("/console/assets/".length).padEnd(38)} ${kilobytes(bytes)}`);
  }
  goal(`all of the page below ${PAGE_BYTES / 1000} kB`, total < PAGE_BYTES);
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(1).padStart(7)} kB`;
}

/** Every file of the page, found by what names it, with its length on the wire. */
async function crawl(origin: string): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  const paths = ["/console"];
  for (let path = paths.pop(); path !== undefined; path = paths.pop()) {
    if (sizes.has(path)) continue;
    const [bytes, text] = await download(`${origin}${path}`);
    sizes.set(path, bytes);
    const names = text.matchAll(/(?:assets\/|"\.\/|`\.\/)([\w.-]+\.(?:js|css))/g);
    for (const [, name] of names) paths.push(`/console/assets/${name}`);
  }
  return sizes;
}

/** Length of an answer's body as it is sent to a browser, and its text. */
function download(url: string): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const headers = { "Accept-Encoding": "gzip", Accept: "*/*" };
    const request = get(url, { headers }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`${url}: ${response.statusCode}`));
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const body = Buffer.concat(chunks);
        const isPacked = response.headers["content-encoding"] === "gzip";
        resolve([body.length, (isPacked ? gunzipSync(body) : body).toString()]);
      });
    });
    request.on("error", reject);
  });
}
