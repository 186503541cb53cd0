/** From a key to its echo on the screen, for the same `cat` behind our page and behind the peer's. */
import type { Tab } from "./browser";
import { goal, report, Samples } from "./samples";
import { openOurs, openPeer, type Stage, sameSize, typeUntil } from "./stage";

const BLOCKS = 12;
const KEYS = "abcdefghijklmnopqrst";
/** At most so much slower than a bare relay. */
const RATIO_MAX = 1.2;

/** What the page notes about one key, in milliseconds since it was pressed. */
interface Echo {
  /** The frame of the key was handed to the WebSocket. */
  readonly sent: number;
  /** The first message after that was there. */
  readonly back: number;
  /** The character was in the elements that the next frame paints. */
  readonly shown: number;
}

/** Measures. */
export async function echo(stage: Stage): Promise<void> {
  const ours = await openOurs(stage, note);
  const theirs = await openPeer(stage, "echo", note);
  await sameSize(ours, theirs);
  for (const page of [ours, theirs]) await typeUntil(page, "stty sane; echo re''ady; exec cat", "ready");
  const names = ["clamshell", "terminado"];
  const all = (part: string) => names.map((name) => new Samples(`${name}: ${part}`));
  const [shown, back, sent] = [
    all("key to its echo on the screen"),
    all("key to answer in the page"),
    all("key to WebSocket"),
  ];
  for (let block = -1; block < BLOCKS; block += 1) {
    for (const [who, page] of [ours, theirs].entries()) {
      await page.bringToFront();
      for (const [at, key] of [...KEYS].entries()) {
        const one = await press(page, key, KEYS.slice(0, at + 1));
        if (block < 0) continue;
        shown[who]?.add(one.shown);
        back[who]?.add(one.back);
        sent[who]?.add(one.sent);
      }
      await page.press("Enter");
    }
  }
  report("key to echo on the screen in Chromium", "ms", shown);
  report("of which: until the answer is in the page", "ms", back);
  report("of which: until the key is handed to the WebSocket", "ms", sent);
  const ratio = (shown[0]?.percentile(50) ?? 0) / (shown[1]?.percentile(50) ?? 0);
  goal(`at most ${RATIO_MAX} of the bare relay's: ${ratio.toFixed(2)}`, ratio <= RATIO_MAX);
  for (const page of [ours, theirs]) await page.close();
}

/** Presses a key at a random moment of the browser's frame, and waits until the screen shows the line. */
async function press(page: Tab, key: string, line: string): Promise<Echo> {
  await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 17));
  const waiting = page.evaluate((wanted) => window.benchEcho?.(wanted), line);
  await page.press(key);
  const one = await waiting;
  if (!one) throw new Error("the page notes nothing");
  return one;
}

declare global {
  interface Window {
    /** Waits until the last line of the terminal is this one. */
    benchEcho?: (line: string) => Promise<Echo>;
  }
}

/** Lets a page note times; the same in both. */
async function note(page: Tab): Promise<void> {
  await page.addInitScript(() => {
    let [pressed, sent, back] = [0, 0, 0];
    let waiting: { line: string; done: (echo: Echo) => void } | undefined;
    addEventListener(
      "keydown",
      () => {
        [pressed, sent, back] = [performance.now(), 0, 0];
      },
      { capture: true },
    );
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
      sent ||= performance.now();
      send.call(this, data);
    };
    const Real = WebSocket;
    window.WebSocket = class extends Real {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        this.addEventListener("message", () => {
          if (sent > 0) back ||= performance.now();
        });
      }
    };
    const lastLine = () => {
      const rows = document.querySelector(".xterm-rows")?.children ?? [];
      for (let at = rows.length - 1; at >= 0; at -= 1) {
        const text = rows[at]?.textContent?.trim() ?? "";
        if (text !== "") return text;
      }
      return "";
    };
    // xterm.js changes its rows within a frame's callback: what is noted here is painted at the end of that frame.
    new MutationObserver(() => {
      if (!waiting || pressed === 0 || lastLine() !== waiting.line) return;
      const now = performance.now();
      waiting.done({ sent: sent - pressed, back: back - pressed, shown: now - pressed });
      waiting = undefined;
      pressed = 0;
    }).observe(document, { subtree: true, childList: true, characterData: true });
    window.benchEcho = (line) =>
      new Promise((done) => {
        waiting = { line, done };
      });
  });
}
