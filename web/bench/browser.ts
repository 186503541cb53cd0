/**
 * A browser and its tabs, asked by the DevTools protocol for what a measurement needs and no more: libraries that
 * drive browsers listen to the network, for which the browser copies every byte of every WebSocket to them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--no-default-browser-check",
  "--disable-background-networking",
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-component-update",
  "--disable-renderer-backgrounding",
  "--disable-sync",
  "--hide-scrollbars",
  "--mute-audio",
  "--remote-debugging-pipe",
];

/** All pages have the same room for the terminal, more or less. */
const VIEWPORT = { width: 1000, height: 700 };

/** How long a page may take for what is waited for. */
const LIMIT_MS = 30_000;

/** A cookie as the browser gives it away and takes it. */
export interface Cookie {
  readonly name: string;
  readonly value: string;
}

interface Answer {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** A browser of its own, with a profile that goes with it. */
export class Browser {
  #id = 0;
  readonly #waiting = new Map<number, Waiting>();
  #rest = "";

  private constructor(
    private readonly child: ChildProcess,
    private readonly profile: string,
    private readonly input: Writable,
    output: Readable,
  ) {
    output.setEncoding("utf8");
    output.on("data", (text: string) => this.#read(text));
    child.once("exit", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("the browser has ended"));
    });
  }

  /** Starts the browser of this machine. */
  static async start(): Promise<Browser> {
    const profile = await mkdtemp(join(tmpdir(), "clamshell-browser-"));
    const program = process.env["CLAMSHELL_CHROMIUM"] ?? "/usr/bin/chromium";
    const child = spawn(program, [...ARGS, `--user-data-dir=${profile}`], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    const [, , , input, output] = child.stdio;
    const browser = new Browser(child, profile, input as Writable, output as Readable);
    await browser.send("Browser.getVersion");
    return browser;
  }

  /** Asks the browser, or one of its targets. */
  send<T>(method: string, params: object = {}, sessionId?: string): Promise<T> {
    this.#id += 1;
    const id = this.#id;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
      this.input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  /** A tab with cookies and cache of its own: these cookies, and an empty cache. */
  async open(cookies: readonly Cookie[]): Promise<Tab> {
    const { browserContextId } = await this.send<{ browserContextId: string }>("Target.createBrowserContext");
    if (cookies.length > 0) await this.send("Storage.setCookies", { cookies, browserContextId });
    const { targetId } = await this.send<{ targetId: string }>("Target.createTarget", {
      url: "about:blank",
      browserContextId,
    });
    const { sessionId } = await this.send<{ sessionId: string }>("Target.attachToTarget", {
      targetId,
      flatten: true,
    });
    const tab = new Tab(this, sessionId, browserContextId);
    await tab.send("Page.enable");
    await tab.send("Performance.enable", { timeDomain: "threadTicks" });
    await tab.send("Emulation.setDeviceMetricsOverride", {
      ...VIEWPORT,
      deviceScaleFactor: 1,
      mobile: false,
    });
    await tab.send("Emulation.setFocusEmulationEnabled", { enabled: true });
    return tab;
  }

  async close(): Promise<void> {
    const ended = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await ended;
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #read(text: string): void {
    const parts = (this.#rest + text).split("\0");
    this.#rest = parts.pop() ?? "";
    for (const part of parts) {
      const { id, result, error } = JSON.parse(part) as Answer;
      const waiting = this.#waiting.get(id ?? 0);
      if (id === undefined || !waiting) continue;
      this.#waiting.delete(id);
      if (error) waiting.reject(new Error(error.message));
      else waiting.resolve(result);
    }
  }
}

/** Codes of the keys that are not letters. */
const KEYS: Readonly<Record<string, object>> = {
  Enter: { code: "Enter", text: "\r", windowsVirtualKeyCode: 13 },
};

/** A tab. */
export class Tab {
  constructor(
    private readonly browser: Browser,
    private readonly session: string,
    private readonly context: string,
  ) {}

  send<T>(method: string, params: object = {}): Promise<T> {
    return this.browser.send<T>(method, params, this.session);
  }

  /** Goes to an address; the document has begun by the end of this. */
  async goto(url: string): Promise<void> {
    const { errorText } = await this.send<{ errorText?: string }>("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
  }

  /** Calls a function in the page; what it gives, or what the promise of it gives, must be plain data. */
  async evaluate<A, T>(action: (argument: A) => T | Promise<T>, argument?: A): Promise<T> {
    const expression = callOf(action, argument);
    const { result, exceptionDetails } = await this.send<{
      result: { value: T };
      exceptionDetails?: { text: string; exception?: { description?: string } };
    }>("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) {
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    }
    return result.value;
  }

  /** Waits until a function gives something in the page, which may change under it. */
  async waitFor<A>(what: string, look: (argument: A) => unknown, argument?: A): Promise<void> {
    const deadline = performance.now() + LIMIT_MS;
    while (!(await this.evaluate(look, argument).catch(() => false))) {
      if (performance.now() > deadline) throw new Error(`${what}: not within ${LIMIT_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Calls a function in every document of this tab before its own scripts. */
  async addInitScript<A>(action: (argument: A) => void, argument?: A): Promise<void> {
    const source = callOf(action, argument);
    await this.send("Page.addScriptToEvaluateOnNewDocument", { source });
  }

  /** Presses and releases a letter's key or one with a name. */
  async press(key: string): Promise<void> {
    const event = KEYS[key] ?? {
      code: `Key${key.toUpperCase()}`,
      text: key,
      windowsVirtualKeyCode: key.toUpperCase().charCodeAt(0),
    };
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", key, ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", key, ...event });
  }

  /** Gives text to what has the focus, all at once. */
  async insertText(text: string): Promise<void> {
    await this.send("Input.insertText", { text });
  }

  async bringToFront(): Promise<void> {
    await this.send("Page.bringToFront");
  }

  async cookies(): Promise<readonly Cookie[]> {
    const answer = await this.browser.send<{ cookies: readonly Cookie[] }>("Storage.getCookies", {
      browserContextId: this.context,
    });
    return answer.cookies;
  }

  /** What the page's scripts hold, garbage left out, in MiB. */
  async heapMib(): Promise<number> {
    await this.send("HeapProfiler.collectGarbage");
    const { usedSize, backingStorageSize = 0 } = await this.send<{
      usedSize: number;
      backingStorageSize?: number;
    }>("Runtime.getHeapUsage");
    return (usedSize + backingStorageSize) / 1_048_576;
  }

  /** Processor time of the thread that runs the page's scripts and draws it, in seconds so far. */
  async cpu(): Promise<number> {
    const { metrics } = await this.send<{ metrics: { name: string; value: number }[] }>(
      "Performance.getMetrics",
    );
    return metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN;
  }

  async close(): Promise<void> {
    await this.browser.send("Target.disposeBrowserContext", { browserContextId: this.context });
  }
}

function callOf<A>(action: (argument: A) => unknown, argument: A | undefined): string {
  return `(${action.toString()})(${JSON.stringify(argument)})`;
}
