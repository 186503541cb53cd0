/** Drives a {@link Connection} with the browser's WebSocket, timers and events. */
import { API, ApiError, call } from "../api/client";
import type { Shell } from "../api/types";
import { Connection as Machine } from "./connection";
import type { Effect, Options, Probe, State, Wish } from "./effects";

/** Which shell, and as whom. */
export interface ShellAddress {
  readonly runtime: string;
  readonly qualifier: string;
  readonly session: string;
  readonly shell: string;
  /** Token of a share link, for somebody who is not signed in. */
  readonly share?: string;
}

/** Where output and news go. */
export interface Sink {
  /** Shows bytes and calls `done` when they are parsed. */
  output(bytes: Uint8Array, replay: boolean, offset: number | undefined, done: () => void): void;
  /** Whether the terminal answers what programs ask, from what comes next on. */
  answers(answers: boolean): void;
  reset(): void;
  size(cols: number, rows: number): void;
  fit(): void;
  gap(bytes: number): void;
  notice(text: string): void;
  state(state: State): void;
  /** How much of a large paste was sent, from 0 to 1. */
  progress(part: number | undefined): void;
}

/** Path of a shell in the extension API. */
export function shellPath(address: ShellAddress, rest = ""): string {
  const { session, shell, runtime, qualifier } = address;
  const path = `${API}/sessions/${encodeURIComponent(session)}/shells/${encodeURIComponent(shell)}${rest}`;
  return `${path}?${new URLSearchParams({ runtime, qualifier })}`;
}

/** Address of the WebSocket, on the page's own scheme and host. */
export function attachUrl(address: ShellAddress, wish: Wish, origin: string): string {
  const url = new URL(shellPath(address, "/attach"), origin);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const query = url.searchParams;
  query.set("from", wish.from);
  query.set("access", wish.access);
  query.set("window", String(wish.window));
  query.set("answers", wish.answers);
  if (wish.writer !== undefined) query.set("writer", wish.writer);
  if (wish.create) {
    query.set("create", "true");
    query.set("command", "default");
  }
  if (wish.takeover) query.set("takeover", "true");
  return url.toString();
}

/** A clock that never goes back and counts the time that the machine slept. */
export function monotonicClock(): () => number {
  let [total, lastDate, lastPerformance] = [0, Date.now(), performance.now()];
  return () => {
    const [date, steady] = [Date.now(), performance.now()];
    total += Math.max(steady - lastPerformance, date - lastDate, 0);
    [lastDate, lastPerformance] = [date, steady];
    return total;
  };
}

/** One terminal's connection. */
export class ShellSocket {
  readonly #machine: Machine;
  readonly #now = monotonicClock();
  #socket: WebSocket | undefined;
  #socketId = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #isDisposed = false;
  #progress: number | undefined;

  constructor(
    private readonly address: ShellAddress,
    options: Omit<Options, "random" | "writer">,
    private readonly sink: Sink,
  ) {
    this.#machine = new Machine({ ...options, random: Math.random, writer: crypto.randomUUID() });
    addEventListener("online", this.#onOnline);
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#machine.setHidden(document.hidden);
  }

  get state(): State {
    return this.#machine.state;
  }

  get hasForeignSize(): boolean {
    return this.#machine.hasForeignSize;
  }

  /** Connects; the terminal's size should be known by now. */
  start(): void {
    this.#do(this.#machine.start(this.#now()));
  }

  retry(): void {
    this.#do(this.#machine.retry(this.#now()));
  }

  takeOver(): void {
    const isOver = this.#machine.state.name === "takenOver";
    this.#do(isOver ? this.#machine.retry(this.#now(), true) : this.#machine.takeOver(this.#now()));
  }

  input(bytes: Uint8Array): void {
    this.#do(this.#machine.input(bytes, this.#now()));
  }

  resize(cols: number, rows: number): void {
    this.#do(this.#machine.resize(cols, rows, this.#now()));
  }

  /** Takes the size of this window again. */
  useOwnSize(): void {
    this.#do(this.#machine.useOwnSize(this.#now()));
  }

  /** Leaves; the shell goes on. */
  dispose(): void {
    this.#isDisposed = true;
    removeEventListener("online", this.#onOnline);
    document.removeEventListener("visibilitychange", this.#onVisibility);
    clearTimeout(this.#timer);
    this.#run(this.#machine.stop());
  }

  readonly #onOnline = () => this.#do(this.#machine.wake(this.#now()));

  readonly #onVisibility = () => {
    this.#machine.setHidden(document.hidden);
    this.#do(document.hidden ? [] : this.#machine.wake(this.#now()));
  };

  #do(effects: readonly Effect[]): void {
    this.#run(effects);
    if (this.#isDisposed) return;
    const buffered = this.#socket?.bufferedAmount ?? 0;
    this.#run(this.#machine.flush(this.#now(), buffered));
    const progress = this.#machine.pasteProgress;
    if (progress !== this.#progress) {
      this.#progress = progress;
      this.sink.progress(progress);
    }
    this.#schedule();
  }

  #schedule(): void {
    const now = this.#now();
    const wait = this.#machine.next(now, this.#socket?.bufferedAmount ?? 0);
    if (wait === undefined) {
      clearTimeout(this.#timer);
      this.#timerAt = Number.POSITIVE_INFINITY;
      return;
    }
    // With every message a timer less: an earlier one looks again by itself.
    if (this.#timerAt <= now + wait && this.#timerAt > now) return;
    clearTimeout(this.#timer);
    this.#timerAt = now + wait;
    this.#timer = setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#do(this.#machine.tick(this.#now()));
    }, wait);
  }

  #run(effects: readonly Effect[]): void {
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case "connect":
        this.#connect(effect.id, effect.wish);
        return;
      case "send":
        if (effect.id === this.#socketId && this.#socket?.readyState === WebSocket.OPEN) {
          // TypeScript tells plain from shared buffers; ours are plain.
          this.#socket.send(effect.bytes as Uint8Array<ArrayBuffer>);
        }
        return;
      case "close":
        if (effect.id === this.#socketId) this.#close();
        return;
      case "probe":
        void this.#probe(effect.id);
        return;
      case "output": {
        const { id, bytes } = effect;
        this.sink.output(bytes, effect.replay, effect.offset, () => {
          this.#machine.processed(id, bytes.length);
          if (!this.#isDisposed) this.#do([]);
        });
        return;
      }
      case "answers":
        this.sink.answers(effect.answers);
        return;
      case "reset":
        this.sink.reset();
        return;
      case "size":
        this.sink.size(effect.cols, effect.rows);
        return;
      case "fit":
        this.sink.fit();
        return;
      case "gap":
        this.sink.gap(effect.bytes);
        return;
      case "notice":
        this.sink.notice(effect.text);
        return;
      case "state":
        this.sink.state(effect.state);
        return;
    }
  }

  #connect(id: number, wish: Wish): void {
    this.#close();
    this.#socketId = id;
    const protocols = ["clamshell.v1"];
    if (this.address.share) protocols.push(`clamshell.share.${this.address.share}`);
    const socket = new WebSocket(attachUrl(this.address, wish, location.href), protocols);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => this.#do(this.#machine.opened(id, this.#now()));
    socket.onmessage = (event: MessageEvent<unknown>) => {
      if (!(event.data instanceof ArrayBuffer)) return;
      this.#do(this.#machine.message(id, new Uint8Array(event.data), this.#now()));
    };
    socket.onclose = (event) => this.#do(this.#machine.closed(id, event.code, event.reason, this.#now()));
  }

  #close(): void {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = undefined;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close(1000);
  }

  async #probe(id: number): Promise<void> {
    const probe = this.address.share ? await probeShare(this.address.share) : await probeShell(this.address);
    if (!this.#isDisposed) this.#do(this.#machine.probed(id, probe, this.#now()));
  }
}

async function probeShell(address: ShellAddress): Promise<Probe> {
  try {
    const shell = await call<Shell>("GET", shellPath(address));
    if (shell.state !== "Ended") return { kind: "running", endOffset: shell.endOffset };
    const reason = shell.endReason === "SessionEnded" ? "the session was stopped" : "";
    return { kind: "ended", code: shell.exitCode, reason };
  } catch (error) {
    return refusal(error);
  }
}

async function probeShare(token: string): Promise<Probe> {
  try {
    const { send } = await import("../api/client");
    await send("GET", `${API}/shares/current`, { headers: { "X-Clamshell-Share": token } });
    return { kind: "unreachable" };
  } catch (error) {
    const probe = refusal(error);
    return probe.kind === "gone" ? { kind: "refused", message: "this link is not valid any more" } : probe;
  }
}

function refusal(error: unknown): Probe {
  if (!(error instanceof ApiError)) return { kind: "unreachable" };
  if (error.status === 404) return { kind: "gone" };
  if (error.status === 401 || error.status === 403) return { kind: "refused", message: error.message };
  return { kind: "unreachable" };
}
