/** One xterm.js terminal with its addons: what it shows, and what programs may ask of it. */
import { FitAddon } from "@xterm/addon-fit";
import type { SearchAddon } from "@xterm/addon-search";
import { UnicodeGraphemesAddon } from "@xterm/addon-unicode-graphemes";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { renderer } from "../components/preferences";
import { keepPace, Load } from "./pace";
import { ReplyGate } from "./replies";
import { cleanTitle, type Link, parseClipboard, safeLink } from "./sanitize";
import { FONT_FAMILY, themeOf } from "./theme";

keepPace(window);

/** Lines above the screen that are kept. */
const SCROLLBACK_LINES = 10_000;
/** How long what nobody waits for is put off at most. */
const IDLE_MS = 500;
/** The smallest font that a screen of another size is shown with. */
const FONT_SIZE_MIN = 5;
/** Images: 4 megapixels each, 32 MB for all of one terminal. */
const IMAGE_LIMITS = {
  pixelLimit: 4_194_304,
  storageLimit: 32,
  sixelSizeLimit: 8_000_000,
  iipSizeLimit: 8_000_000,
};

/** What the screen tells and asks. */
export interface ScreenEvents {
  /** Typed, pasted, reported or answered: bytes for the program. */
  input(bytes: Uint8Array): void;
  /** The size that its room allows has changed. */
  resized(cols: number, rows: number): void;
  title(text: string): void;
  bell(): void;
  /** A link was clicked: ask, then open. */
  link(link: Link): void;
  /** A program wants to fill the clipboard. */
  clipboard(text: string): void;
  notice(text: string): void;
}

/** How it looks. */
export interface Look {
  readonly fontSize: number;
  readonly colors: "dark" | "light";
  readonly screenReader: boolean;
}

/** The terminal of one shell. */
export class Screen {
  readonly terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #gate = new ReplyGate();
  readonly #load = new Load();
  readonly #encoder = new TextEncoder();
  #search: SearchAddon | undefined;
  #look: Look;
  #host: HTMLElement | undefined;
  #isFurnished = false;
  /** Size given by somebody else; `undefined` when the room decides. */
  #given: { cols: number; rows: number } | undefined;

  constructor(
    look: Look,
    private readonly events: ScreenEvents,
    readOnly: boolean,
  ) {
    this.#look = look;
    this.terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      disableStdin: readOnly,
      fontFamily: FONT_FAMILY,
      fontSize: look.fontSize,
      scrollback: SCROLLBACK_LINES,
      screenReaderMode: look.screenReader,
      theme: themeOf(look.colors),
      linkHandler: { activate: (_event, text) => this.#open(text), allowNonHttpProtocols: false },
    });
    const { terminal } = this;
    terminal.loadAddon(this.#fit);
    terminal.loadAddon(new WebLinksAddon((_event, text) => this.#open(text)));
    terminal.loadAddon(new UnicodeGraphemesAddon());
    terminal.onData((data) => events.input(this.#encoder.encode(data)));
    // Old mouse reports are bytes, not characters.
    terminal.onBinary((data) => events.input(Uint8Array.from(data, (char) => char.charCodeAt(0))));
    terminal.onTitleChange((title) => events.title(cleanTitle(title)));
    terminal.onBell(() => {
      if (!this.#gate.isOld) events.bell();
    });
    this.#gate.isMute = true;
    this.#gate.watch(terminal.parser);
    terminal.parser.registerOscHandler(52, (payload) => this.#clipboard(payload));
  }

  /** Puts the terminal into the page; the addons that need it follow. */
  open(host: HTMLElement): void {
    this.#host = host;
    this.terminal.open(host);
    // The keyboard of a phone: all signs, and nothing corrected or completed.
    this.terminal.textarea?.setAttribute("inputmode", "text");
    this.terminal.textarea?.setAttribute("autocomplete", "off");
  }

  /** Shows bytes; `done` is called when they are parsed. */
  write(bytes: Uint8Array, replay: boolean, done: () => void): void {
    this.#gate.written(replay);
    const parsed = this.#load.add(bytes.length);
    this.terminal.write(bytes, () => {
      parsed();
      this.#furnish();
      this.#gate.parsed();
      done();
    });
  }

  /** Whether it answers what programs ask, from what is written next on; at first it does not. */
  setAnswers(answers: boolean): void {
    this.#inOrder(() => {
      this.#gate.isMute = !answers;
    });
  }

  /** Forgets everything, in order with what was written before. */
  reset(): void {
    this.write(this.#encoder.encode("\x1bc\x1b[3J"), true, () => {});
  }

  /** A line of the page's own amid the output. */
  mark(text: string): void {
    const line = `\r\n\x1b[0;2;3m… ${cleanTitle(text)} …\x1b[0m\r\n`;
    this.write(this.#encoder.encode(line), true, () => {});
  }

  /** Shows a screen of this size, smaller if it must be. */
  give(cols: number, rows: number): void {
    this.#inOrder(() => {
      this.#given = { cols, rows };
      this.layOut();
    });
  }

  /** Takes the size of the room again. */
  take(): void {
    this.#inOrder(() => {
      this.#given = undefined;
      this.layOut();
    });
  }

  /** Does something when all that was written before is parsed: xterm.js changes its size at once, before that. */
  #inOrder(action: () => void): void {
    this.terminal.write("", action);
  }

  /** Whether somebody else decides about the size. */
  get isGiven(): boolean {
    return this.#given !== undefined;
  }

  /** The room, the font or the size has changed. */
  layOut(): void {
    const host = this.#host;
    if (!host || host.clientWidth === 0 || host.clientHeight === 0) return;
    const { terminal } = this;
    if (terminal.options.fontSize !== this.#look.fontSize) terminal.options.fontSize = this.#look.fontSize;
    const room = this.#fit.proposeDimensions();
    if (!room || !Number.isFinite(room.cols) || !Number.isFinite(room.rows)) return;
    if (this.#given) {
      const { cols, rows } = this.#given;
      const scale = Math.min(1, room.cols / cols, room.rows / rows);
      const fontSize = Math.max(FONT_SIZE_MIN, Math.floor(this.#look.fontSize * scale * 2) / 2);
      if (terminal.options.fontSize !== fontSize) terminal.options.fontSize = fontSize;
      terminal.resize(cols, rows);
    } else {
      terminal.resize(room.cols, room.rows);
    }
    this.events.resized(room.cols, room.rows);
  }

  /** Another font size, other colors, or a reader for the screen. */
  setLook(look: Look): void {
    if (look.colors !== this.#look.colors) this.terminal.options.theme = themeOf(look.colors);
    if (look.screenReader !== this.#look.screenReader) {
      this.terminal.options.screenReaderMode = look.screenReader;
    }
    const isResized = look.fontSize !== this.#look.fontSize;
    this.#look = look;
    if (isResized) this.layOut();
  }

  /** Looks for text; gives whether there is any. */
  async find(text: string, direction: "next" | "previous", asTyped: boolean): Promise<boolean> {
    const search = await this.#loadSearch();
    if (text === "") {
      search.clearDecorations();
      return true;
    }
    // Marks of a shorter text would stay otherwise.
    if (asTyped) search.clearDecorations();
    const decorations = {
      matchBackground: "#5c4a12",
      matchOverviewRuler: "#e5b454",
      activeMatchBackground: "#a06a00",
      activeMatchColorOverviewRuler: "#ff8078",
    };
    const options = { incremental: asTyped, decorations };
    return direction === "next" ? search.findNext(text, options) : search.findPrevious(text, options);
  }

  /** Ends a search. */
  endFind(): void {
    this.#search?.clearDecorations();
    this.terminal.clearSelection();
  }

  dispose(): void {
    this.#load.end();
    this.terminal.dispose();
  }

  async #loadSearch(): Promise<SearchAddon> {
    if (!this.#search) {
      const { SearchAddon } = await import("@xterm/addon-search");
      this.#search = new SearchAddon();
      this.terminal.loadAddon(this.#search);
    }
    return this.#search;
  }

  /** Draws with the graphics card where there is one, or as was chosen; when its context is lost, elements do. */
  /** Brings the addons that can wait until there is something to see. */
  #furnish(): void {
    if (this.#isFurnished) return;
    this.#isFurnished = true;
    whenIdle(() => {
      void this.#loadWebgl();
      void this.#loadImages();
    });
  }

  async #loadWebgl(): Promise<void> {
    const chosen = renderer.value;
    if (chosen === "elements" || (chosen === "auto" && !hasGraphicsCard())) return;
    try {
      const { WebglAddon } = await import("@xterm/addon-webgl");
      const addon = new WebglAddon();
      addon.onContextLoss(() => addon.dispose());
      this.terminal.loadAddon(addon);
    } catch {
      // No WebGL 2 here: the page's elements draw as before.
    }
  }

  async #loadImages(): Promise<void> {
    try {
      const { ImageAddon } = await import("@xterm/addon-image");
      this.terminal.loadAddon(new ImageAddon(IMAGE_LIMITS));
      // It answers questions as well, and would be asked first.
      this.#gate.watch(this.terminal.parser);
    } catch {
      // Pictures are a nicety; text goes on.
    }
  }

  #open(text: string): void {
    const link = safeLink(text);
    if (link) this.events.link(link);
    else this.events.notice("this link is not opened: only plain http and https addresses are");
  }

  #clipboard(payload: string): boolean {
    if (this.#gate.isOld) return true;
    const wish = parseClipboard(payload);
    if (wish.kind === "write") this.events.clipboard(wish.text);
    else if (wish.kind === "refused") this.events.notice(`a program's clipboard was refused: ${wish.reason}`);
    return true;
  }
}

/** Does something when the page has nothing better to do. */
function whenIdle(action: () => void): void {
  if ("requestIdleCallback" in window) requestIdleCallback(action, { timeout: IDLE_MS });
  else setTimeout(action, IDLE_MS);
}

/** Whether WebGL is drawn by hardware: drawn by the processor it is slower than elements. */
function hasGraphicsCard(): boolean {
  const context = document
    .createElement("canvas")
    .getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  if (!context) return false;
  const info = context.getExtension("WEBGL_debug_renderer_info");
  const renderer = info ? String(context.getParameter(info.UNMASKED_RENDERER_WEBGL)) : "";
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|software/i.test(renderer);
}
