/**
 * The terminals that are open: screen and connection of each, kept while the page around them changes, so that a
 * terminal moves between tabs and cells, or waits behind another view, without a break.
 */
import { effect, type Signal, signal } from "@preact/signals";
import { ask } from "../components/dialog";
import { colors, terminalFontSize } from "../components/preferences";
import { controlOf } from "./control";
import type { State } from "./effects";
import type { Pane } from "./layout";
import type { Link } from "./sanitize";
import { Screen } from "./screen";
import { type ShellAddress, ShellSocket } from "./socket";

/** Whether texts for screen readers are made; that costs time with every line. */
export const screenReader = signal(false);

/** How long a notice stays. */
const NOTICE_MS = 8000;
/** How long a bell is seen. */
const BELL_MS = 600;

/** A terminal that is open. */
export class LiveTerminal {
  readonly state: Signal<State> = signal({ name: "connecting" });
  /** What the program calls itself. */
  readonly title = signal("");
  readonly size = signal("");
  /** Whether another window decides about the size. */
  readonly isForeign = signal(false);
  readonly notice = signal("");
  readonly progress = signal<number | undefined>(undefined);
  /** What a program wants in the clipboard; asked beside the terminal, so that it cannot catch keys. */
  readonly clipboardWish = signal<string | undefined>(undefined);
  readonly hasBell = signal(false);
  /** Ctrl of the keys on the screen is held for the next key. */
  readonly stickyCtrl = signal(false);
  readonly screen: Screen;
  readonly socket: ShellSocket;
  /** The xterm.js terminal sits in here, wherever that is put. */
  readonly host = document.createElement("div");
  #pane: HTMLElement | undefined;
  #offset = "";
  #clipboard: "ask" | "allowed" | "denied" = "ask";
  #noticeTimer: ReturnType<typeof setTimeout> | undefined;
  #observer = new ResizeObserver(() => this.#layOut());
  #stopLook: () => void;
  #isOpen = false;

  constructor(
    readonly pane: Pane,
    share: string | undefined,
    onConfirmed: () => void,
  ) {
    this.host.className = "term-host";
    const look = () => ({
      fontSize: terminalFontSize.value,
      colors: colors.value,
      screenReader: screenReader.value,
    });
    const isWatch = pane.access === "watch";
    this.screen = new Screen(
      look(),
      {
        input: (bytes) => this.#input(bytes),
        resized: (cols, rows) => this.#resized(cols, rows),
        title: (text) => {
          this.title.value = text;
        },
        bell: () => this.#bell(),
        link: (link) => void this.#openLink(link),
        clipboard: (text) => this.#fillClipboard(text),
        notice: (text) => this.tell(text),
      },
      isWatch,
    );
    const address: ShellAddress = {
      runtime: pane.runtime,
      qualifier: pane.qualifier,
      session: pane.session,
      shell: pane.shell,
      ...(share === undefined ? {} : { share }),
    };
    this.socket = new ShellSocket(
      address,
      { access: pane.access, create: pane.create === true },
      {
        output: (bytes, replay, offset, done) =>
          this.screen.write(bytes, replay, () => {
            if (offset !== undefined) this.#setOffset(offset);
            done();
          }),
        answers: (answers) => this.screen.setAnswers(answers),
        reset: () => this.screen.reset(),
        size: (cols, rows) => this.screen.give(cols, rows),
        fit: () => this.screen.take(),
        gap: (bytes) => this.screen.mark(`${bytes} bytes were cut`),
        notice: (text) => this.tell(text),
        progress: (part) => {
          this.progress.value = part;
        },
        state: (state) => {
          this.state.value = state;
          if (state.name === "live") onConfirmed();
          this.#show();
        },
      },
    );
    this.#stopLook = effect(() => this.screen.setLook(look()));
    this.#observer.observe(this.host);
  }

  /** Puts the terminal into a part of the page and, the first time, connects it. */
  mount(pane: HTMLElement, slot: HTMLElement): void {
    this.#pane = pane;
    slot.replaceChildren(this.host);
    if (!this.#isOpen) {
      this.#isOpen = true;
      // The connection is made while the terminal is; it is told the size when it stands.
      this.socket.start();
      this.screen.open(this.host);
      this.screen.layOut();
    }
    this.#layOut();
    this.#show();
  }

  focus(): void {
    this.screen.terminal.focus();
  }

  /** Types for the person: keys on the screen, pasted text. */
  type(text: string): void {
    this.screen.terminal.input(text, true);
  }

  /** Pastes as xterm.js does: between brackets when the program asked for them. */
  async paste(): Promise<void> {
    try {
      this.screen.terminal.paste(await navigator.clipboard.readText());
    } catch {
      this.tell("the browser does not give the clipboard away: paste with its own keys");
    }
  }

  /** Copies what is selected; gives whether there was anything. */
  copy(): boolean {
    const text = this.screen.terminal.getSelection();
    if (text === "") return false;
    void navigator.clipboard.writeText(text).catch(() => this.tell("the browser does not let the page copy"));
    return true;
  }

  /** Answers the program that wants to fill the clipboard; the answer holds for this terminal. */
  answerClipboard(isAllowed: boolean): void {
    const text = this.clipboardWish.value;
    this.clipboardWish.value = undefined;
    this.#clipboard = isAllowed ? "allowed" : "denied";
    if (isAllowed && text !== undefined) this.#fillClipboard(text);
    this.focus();
  }

  /** A short line for the person. */
  tell(text: string): void {
    this.notice.value = text;
    clearTimeout(this.#noticeTimer);
    this.#noticeTimer = setTimeout(() => {
      this.notice.value = "";
    }, NOTICE_MS);
  }

  dispose(): void {
    this.#observer.disconnect();
    this.#stopLook();
    clearTimeout(this.#noticeTimer);
    this.socket.dispose();
    this.screen.dispose();
    this.host.remove();
  }

  #input(bytes: Uint8Array): void {
    let typed = bytes;
    if (this.stickyCtrl.value && bytes.length === 1) {
      this.stickyCtrl.value = false;
      typed = Uint8Array.of(controlOf(bytes[0] ?? 0));
    }
    this.socket.input(typed);
    this.isForeign.value = this.socket.hasForeignSize;
  }

  #resized(cols: number, rows: number): void {
    this.size.value = `${this.screen.terminal.cols}×${this.screen.terminal.rows}`;
    this.socket.resize(cols, rows);
    this.isForeign.value = this.socket.hasForeignSize;
  }

  #layOut(): void {
    this.screen.layOut();
  }

  #bell(): void {
    this.hasBell.value = true;
    setTimeout(() => {
      this.hasBell.value = false;
    }, BELL_MS);
  }

  #fillClipboard(text: string): void {
    if (this.#clipboard === "denied") return;
    if (this.#clipboard === "ask") {
      this.clipboardWish.value ??= text;
      return;
    }
    navigator.clipboard.writeText(text).then(
      () => this.tell("a program filled the clipboard"),
      () => this.tell("the browser does not let the page fill the clipboard"),
    );
  }

  async #openLink(link: Link): Promise<void> {
    const isAllowed = await ask({
      title: `Open ${link.host}?`,
      text: `A program in this terminal wrote this address: ${link.href}`,
      action: "Open in a new tab",
    });
    if (isAllowed) window.open(link.href, "_blank", "noopener,noreferrer");
    this.focus();
  }

  #setOffset(offset: number): void {
    this.#offset = String(offset);
    if (this.#pane) this.#pane.dataset["offset"] = this.#offset;
  }

  #show(): void {
    if (!this.#pane) return;
    this.#pane.dataset["state"] = this.state.value.name;
    this.#pane.dataset["offset"] = this.#offset;
  }
}
