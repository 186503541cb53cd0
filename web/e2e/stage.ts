/** What most tests stand on: a server, a browser and a login for all tests of a file, and windows that last for one of them. */
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { type Api, Server } from "./server";
import { startBrowser, Terminal, window } from "./terminal";

/** What a file wants otherwise than most. */
export interface Wishes {
  /** The server's configuration, asked for when hooks that were named earlier have run. */
  readonly configuration?: () => string;
  /** Further flags of the browser. */
  readonly flags?: readonly string[];
}

/** Size of a window in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Sets the stage for the tests of the `describe` that calls this, and clears it when they are done. */
export function useStage(wishes: Wishes = {}): Stage {
  const stage = new Stage();
  beforeAll(() => stage.set(wishes));
  beforeEach(() => stage.keep());
  afterEach(() => stage.tidy());
  afterAll(() => stage.clear());
  return stage;
}

/** The server, the browser and root's login. */
export class Stage {
  #server: Server | undefined;
  #browser: Browser | undefined;
  #api: Api | undefined;
  /** Windows of the test that runs. */
  #windows: BrowserContext[] = [];

  get server(): Server {
    return there(this.#server);
  }

  get browser(): Browser {
    return there(this.#browser);
  }

  /** Calls with root's login. */
  get api(): Api {
    return there(this.#api);
  }

  /** A window that is signed in as root, or by another login; it closes with the test. */
  async window(api = this.api, size?: Size): Promise<{ context: BrowserContext; page: Page }> {
    const opened = await window(this.browser, api, api.origin, size);
    this.#windows.push(opened.context);
    return opened;
  }

  /** A window with a terminal of its own. */
  async open(size?: Size): Promise<{ context: BrowserContext; page: Page; terminal: Terminal }> {
    const opened = await this.window(this.api, size);
    return { ...opened, terminal: await Terminal.open(opened.page, this.api) };
  }

  /** Starts all there is. */
  async set(wishes: Wishes): Promise<void> {
    this.#server = await Server.start(wishes.configuration?.());
    this.#browser = await startBrowser(...(wishes.flags ?? []));
    this.#api = await this.#server.login();
  }

  /** What is open before the tests stays until the last of them. */
  keep(): void {
    this.#windows = [];
  }

  /** Closes the windows of a test. */
  async tidy(): Promise<void> {
    for (const context of this.#windows.splice(0)) await context.close();
  }

  /** Ends what was started, as far as it was. */
  async clear(): Promise<void> {
    await this.#browser?.close();
    await this.#server?.remove();
  }
}

function there<T>(thing: T | undefined): T {
  if (thing === undefined) throw new Error("the stage is not set yet");
  return thing;
}
