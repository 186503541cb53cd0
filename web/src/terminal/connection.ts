/**
 * One terminal's connection to its shell, without any I/O: the caller brings messages and the time, and does
 * what the effects say. Output is counted by its offset in the shell's log, so that after any cut the stream goes
 * on at the next byte: nothing is lost and nothing comes twice.
 */
import { ATTEMPTS_MAX, backoffMs, closeMeaning, FIRST_ATTEMPTS_MAX } from "./backoff";
import type { Effect, Options, Probe, State, Wish } from "./effects";
import { Flow, WINDOW_BYTES } from "./flow";
import { consumedFrame, heartbeatFrame, parseFrame, resizeFrame, type Status, stdinFrame } from "./frames";
import { INPUT_BYTES_MAX, InputQueue, OFFLINE_BYTES_MAX } from "./input";

/** From the first attempt to the confirmation: a session may have to be started for it. */
const CONNECT_TIMEOUT_MS = 60_000;
/** Proxies drop what is silent for some minutes. */
const HEARTBEAT_MS = 30_000;
/** Two heartbeats and a half without any answer. */
const SILENCE_MAX_MS = 75_000;
/** A timer that comes so late has slept, and the connection may have died meanwhile. */
const SLEEP_MS = 20_000;
/** A living server answers a heartbeat sooner. */
const ANSWER_MS = 5000;
/** The server ends a connection after an hour: better before that, when nothing is going on. */
const RENEW_FROM_MS = 55 * 60_000;
const RENEW_AT_MS = 59 * 60_000;
const QUIET_MS = 2000;
/** A planned change of connections that takes longer is shown. */
const RENEW_SHOWN_MS = 1500;
/** How long kept input waits for the news which program is running. */
const RUN_NEWS_MS = 500;
/** The caller's timer runs at least so often. */
const TICK_MS = 5000;

type Phase = "idle" | "waiting" | "opening" | "open" | "probing" | "confirmed" | "over";

/** The machine. */
export class Connection {
  #state: State = { name: "connecting" };
  #phase: Phase = "idle";
  #id = 0;
  #create: boolean;
  #takeover: boolean;
  #wasConfirmed = false;
  /** The server answers, and yet there is no shell. */
  #notStarted = false;
  #attempts = 0;
  #retryAt = 0;
  #since = 0;
  #openedAt = 0;
  #lastTick: number | undefined;
  #lastFrame = 0;
  #lastHeartbeat = 0;
  #lastActivity = 0;
  #answerBy: number | undefined;
  #renewing = false;
  #holdUntil = 0;
  /** Next byte of the log; `undefined` until a screen was painted whole. */
  #offset: number | undefined;
  #paintLeft = 0;
  #paintOffset = 0;
  #replayEnd = 0;
  #runOffset: number | undefined;
  #size: { cols: number; rows: number } | undefined;
  #foreignSize = false;
  /** The terminal answers what programs ask. */
  #answers = false;
  /** The server of this connection has said which program runs, and before that what it has of the input. */
  #runTold = false;
  #isCounted = false;
  #overflowTold = false;
  #hidden = false;
  #flow = new Flow();
  readonly #input = new InputQueue();

  constructor(private readonly options: Options) {
    this.#create = options.create;
    this.#takeover = options.takeover ?? false;
  }

  get state(): State {
    return this.#state;
  }

  /** Next byte of the log. */
  get offset(): number | undefined {
    return this.#offset;
  }

  /** How much of a large paste is sent, from 0 to 1. */
  get pasteProgress(): number | undefined {
    return this.#input.progress;
  }

  /** Whether another window's size is shown. */
  get hasForeignSize(): boolean {
    return this.#foreignSize;
  }

  /** Begins. */
  start(now: number): Effect[] {
    return this.#phase === "idle" ? this.#connect(now) : [];
  }

  /** Asks again after a failure, or takes the shell back. */
  retry(now: number, takeover = false): Effect[] {
    if (this.#phase !== "over") return this.wake(now);
    this.#takeover = takeover;
    this.#attempts = 0;
    return this.#connect(now);
  }

  /** Sends other writers away. */
  takeOver(now: number): Effect[] {
    if (this.options.access !== "write" || this.#state.name === "ended") return [];
    const close: Effect[] = this.#phase === "over" ? [] : [{ type: "close", id: this.#id }];
    this.#takeover = true;
    this.#renewing = this.#phase === "confirmed";
    return [...close, ...this.#connect(now)];
  }

  /** Leaves; the shell goes on. */
  stop(): Effect[] {
    this.#phase = "over";
    return [{ type: "close", id: this.#id }];
  }

  /** The WebSocket stands. */
  opened(id: number, now: number): Effect[] {
    if (id !== this.#id || this.#phase !== "opening") return [];
    this.#phase = "open";
    this.#openedAt = now;
    this.#lastFrame = now;
    return [];
  }

  /** A message came. */
  message(id: number, message: Uint8Array, now: number): Effect[] {
    if (id !== this.#id || (this.#phase !== "open" && this.#phase !== "confirmed")) return [];
    this.#lastFrame = now;
    this.#answerBy = undefined;
    const frame = parseFrame(message);
    switch (frame.kind) {
      case "stdout":
        this.#lastActivity = now;
        return this.#output(frame.bytes);
      case "stderr": {
        const text = new TextDecoder().decode(frame.bytes.subarray(0, 1000));
        return [{ type: "notice", text }];
      }
      case "status":
        return this.#status(frame.status, now);
      case "heartbeat":
      case "close":
      case "unknown":
        return [];
    }
  }

  /** The WebSocket went, or never came. */
  closed(id: number, code: number, reason: string, now: number): Effect[] {
    if (id !== this.#id || this.#phase === "over" || this.#phase === "waiting" || this.#phase === "probing") {
      return [];
    }
    if (this.#phase === "opening") {
      this.#phase = "probing";
      this.#since = now;
      return [{ type: "probe", id: this.#id }];
    }
    switch (closeMeaning(code)) {
      case "ended":
        return this.#finish({ name: "ended", code: undefined, reason: reason || "the shell was closed" });
      case "replaced":
        return this.#finish({ name: "takenOver" });
      case "refused":
        return this.#finish({ name: "failed", reason: reason || `the server closed with ${code}` });
      case "lost":
        return this.#lost(now);
    }
  }

  /** The answer to a probe. */
  probed(id: number, probe: Probe, now: number): Effect[] {
    if (id !== this.#id || this.#phase !== "probing") return [];
    switch (probe.kind) {
      case "ended":
        if (this.#create) return this.#lost(now);
        return this.#finish({ name: "ended", code: probe.code, reason: probe.reason });
      case "gone":
        this.#notStarted = this.#create;
        if (this.#create) return this.#lost(now);
        return this.#finish({ name: "ended", code: undefined, reason: "the shell or its session is gone" });
      case "refused":
        return this.#finish({ name: "failed", reason: probe.message });
      case "running":
        // A log that became shorter is another one: only its screen tells what there is.
        if (this.#offset !== undefined && probe.endOffset < this.#offset) this.#offset = undefined;
        return this.#lost(now);
      case "unreachable":
        this.#notStarted = false;
        return this.#lost(now);
    }
  }

  /** Time passed. */
  tick(now: number): Effect[] {
    const slept = this.#lastTick !== undefined && now - this.#lastTick > SLEEP_MS;
    this.#lastTick = now;
    switch (this.#phase) {
      case "idle":
      case "over":
        return [];
      case "waiting":
        return now >= this.#retryAt ? this.#connect(now) : [];
      case "opening":
      case "open":
      case "probing":
        if (now - this.#since >= CONNECT_TIMEOUT_MS) return this.#drop(now);
        return this.#renewing && now - this.#since >= RENEW_SHOWN_MS ? this.#showRenewal() : [];
      case "confirmed":
        return this.#beat(now, slept);
    }
  }

  /** The network or the person came back. */
  wake(now: number): Effect[] {
    if (this.#phase === "waiting") return this.#connect(now);
    if (this.#phase === "confirmed" && this.#answerBy === undefined) return this.#askForLife(now);
    return [];
  }

  /** Whether the page is seen; see {@link Flow}. */
  setHidden(hidden: boolean): void {
    this.#hidden = hidden;
  }

  /** Something was typed, pasted or reported. Gives `false` when it can reach nobody. */
  input(bytes: Uint8Array, now: number): Effect[] {
    if (this.options.access === "watch" || this.#phase === "over" || bytes.length === 0) return [];
    const effects: Effect[] = [];
    const isInterrupt = bytes.length === 1 && bytes[0] === 0x03;
    if (isInterrupt && this.#input.progress !== undefined) {
      const forgotten = this.#input.clear();
      effects.push({ type: "notice", text: `the rest of the paste, ${forgotten} bytes, was not sent` });
    }
    const isLive = this.#phase === "confirmed";
    if (this.#input.push(bytes, isLive ? INPUT_BYTES_MAX : OFFLINE_BYTES_MAX)) {
      this.#overflowTold = false;
      if (isLive) {
        this.#lastActivity = now;
        effects.push(...this.#ownSize(now));
      }
      return effects;
    }
    if (!this.#overflowTold || bytes.length > OFFLINE_BYTES_MAX) {
      this.#overflowTold = true;
      const text = isLive
        ? "too much input waits for the program: this was not sent (a file can be uploaded instead)"
        : "not connected: this was not kept, as more than 64 KiB would wait";
      effects.push({ type: "notice", text });
    }
    return effects;
  }

  /** The room of the terminal changed: its size now. */
  resize(cols: number, rows: number, now: number): Effect[] {
    const same = this.#size?.cols === cols && this.#size.rows === rows;
    this.#size = { cols, rows };
    if (this.options.access === "watch" || this.#phase !== "confirmed") return [];
    if (same) return [];
    return this.#foreignSize ? this.#ownSize(now) : this.#sendSize(now);
  }

  /** The person wants this window's size, whoever set another one. */
  useOwnSize(now: number): Effect[] {
    return this.#phase === "confirmed" ? this.#ownSize(now) : [];
  }

  /** Output of connection `id` was parsed. */
  processed(id: number, bytes: number): void {
    if (id === this.#id) this.#flow.processed(bytes);
  }

  /** What can be sent now, given how many bytes the socket still holds. */
  flush(now: number, buffered: number): Effect[] {
    if (this.#phase !== "confirmed") return [];
    const effects: Effect[] = [];
    const consumed = this.#flow.take(now, this.#hidden);
    if (consumed !== undefined) {
      effects.push({ type: "send", id: this.#id, bytes: consumedFrame(consumed) });
    }
    if (now >= this.#holdUntil) {
      for (const payload of this.#input.take(now, buffered)) {
        effects.push({ type: "send", id: this.#id, bytes: stdinFrame(payload) });
      }
    }
    return effects;
  }

  /** In how many milliseconds to call {@link tick} and {@link flush} at the latest. */
  next(now: number, buffered: number): number | undefined {
    if (this.#phase === "over" || this.#phase === "idle") return undefined;
    const waits = [TICK_MS];
    if (this.#phase === "waiting") waits.push(this.#retryAt - now);
    if (this.#renewing) waits.push(RENEW_SHOWN_MS);
    if (this.#phase === "confirmed") {
      const input = this.#input.wait(now, buffered);
      if (input !== undefined) waits.push(Math.max(input, this.#holdUntil - now));
      const flow = this.#flow.wait(now, this.#hidden);
      if (flow !== undefined) waits.push(flow);
      if (this.#answerBy !== undefined) waits.push(this.#answerBy - now);
      if (now - this.#openedAt >= RENEW_FROM_MS) waits.push(QUIET_MS);
    }
    return Math.max(1, Math.min(...waits));
  }

  #connect(now: number): Effect[] {
    this.#id += 1;
    this.#phase = "opening";
    this.#since = now;
    this.#lastTick = now;
    this.#answerBy = undefined;
    this.#paintLeft = 0;
    this.#flow = new Flow();
    this.#runTold = false;
    this.#isCounted = false;
    const wish: Wish = {
      from: this.#offset === undefined ? "screen" : `offset:${this.#offset}`,
      access: this.options.access,
      create: this.#create,
      takeover: this.#takeover,
      window: WINDOW_BYTES,
      answers: "told",
      writer: this.options.access === "write" ? this.options.writer : undefined,
    };
    const state: State = this.#wasConfirmed
      ? { name: "reconnecting", attempt: Math.max(1, this.#attempts), retryAt: undefined }
      : { name: "connecting" };
    const shown = this.#renewing ? [] : this.#say(state);
    return [...shown, ...this.#setAnswers(false), { type: "connect", id: this.#id, wish }];
  }

  #status(status: Status, now: number): Effect[] {
    switch (status.kind) {
      case "confirmed":
        return this.#confirmed(status.reconnected, status.offset, now);
      case "run":
        return this.#run(status, now);
      case "gap": {
        if (this.#offset !== undefined) this.#offset = Math.max(this.#offset, status.to);
        return [{ type: "gap", bytes: status.to - status.from }];
      }
      case "screen":
        this.#paintLeft = status.bytes;
        this.#paintOffset = status.offset;
        this.#offset = undefined;
        return [{ type: "reset" }, ...(status.bytes === 0 ? this.#painted(now) : [])];
      case "resized":
        this.#foreignSize = this.options.access === "write";
        return [{ type: "size", cols: status.cols, rows: status.rows }];
      case "answers":
        return this.#setAnswers(status.answers);
      case "typed":
        return this.#typed(status.bytes, now);
      case "exited": {
        const reason = status.signal === undefined ? "" : `ended by signal ${status.signal}`;
        return this.#finish({ name: "ended", code: status.code, reason });
      }
      case "failed":
        // The platform's trouble is taken for passing, as the service's other clients do.
        return this.#drop(now);
    }
  }

  #confirmed(reconnected: boolean, offset: number | undefined, now: number): Effect[] {
    const effects: Effect[] = [];
    if (this.#phase === "open") {
      this.#phase = "confirmed";
      this.#lastHeartbeat = now;
      this.#lastActivity = now;
      this.#attempts = 0;
      this.#renewing = false;
      this.#takeover = false;
      this.#replayEnd = 0;
      this.#holdUntil = now + RUN_NEWS_MS;
      if (!reconnected && this.#wasConfirmed) effects.push(...this.#otherProgram());
      this.#create = false;
      this.#wasConfirmed = true;
      // A program that was just started has printed nothing: there is no screen to wait for.
      if (!reconnected && this.#offset === undefined && offset !== undefined) this.#offset = offset;
      if (this.options.access === "write" && !this.#foreignSize) effects.push(...this.#sendSize(now));
      effects.push(...this.#say({ name: "live" }));
    }
    return effects;
  }

  #run(run: Extract<Status, { kind: "run" }>, now: number): Effect[] {
    const effects: Effect[] = [];
    if (!this.#isCounted) this.#input.forgetSent();
    this.#runTold = true;
    if (this.#runOffset !== undefined && this.#runOffset !== run.offset)
      effects.push(...this.#otherProgram());
    this.#runOffset = run.offset;
    this.#replayEnd = run.end;
    this.#holdUntil = now;
    // What comes first was made for this size; the terminal's own follows.
    if (this.options.access === "watch" || this.#offset === undefined) {
      effects.push({ type: "size", cols: run.cols, rows: run.rows });
    }
    return effects;
  }

  #setAnswers(answers: boolean): Effect[] {
    if (answers === this.#answers) return [];
    this.#answers = answers;
    return [{ type: "answers", answers }];
  }

  /** A server that counts input says at first what it has, which comes before the news of the run, and then how it goes on. */
  #typed(bytes: number, now: number): Effect[] {
    if (this.#isCounted) {
      this.#input.passed(bytes);
      return [];
    }
    if (this.#runTold || now >= this.#holdUntil) return [];
    this.#isCounted = true;
    const doubt = this.#input.resume(bytes);
    if (doubt === 0) return [];
    return [{ type: "notice", text: `${doubt} bytes typed as the connection was lost may be missing` }];
  }

  #otherProgram(): Effect[] {
    const forgotten = this.#input.clear();
    const dropped = forgotten > 0 ? `; ${forgotten} bytes typed for the old one were not sent` : "";
    return [{ type: "notice", text: `this may be another program now${dropped}` }];
  }

  #output(bytes: Uint8Array): Effect[] {
    this.#flow.received(bytes.length);
    const effects: Effect[] = [];
    let rest = bytes;
    if (this.#paintLeft > 0) {
      const paint = rest.subarray(0, this.#paintLeft);
      rest = rest.subarray(paint.length);
      this.#paintLeft -= paint.length;
      effects.push({ type: "output", id: this.#id, bytes: paint, replay: true, offset: undefined });
      if (this.#paintLeft === 0) effects.push(...this.#painted(this.#lastFrame));
    }
    if (rest.length === 0) return effects;
    if (this.#offset === undefined) {
      // A server that paints nothing counts from nowhere: show it, and ask for the screen the next time.
      effects.push({ type: "output", id: this.#id, bytes: rest, replay: false, offset: undefined });
      return effects;
    }
    const old = rest.subarray(0, Math.max(0, this.#replayEnd - this.#offset));
    for (const [piece, replay] of [
      [old, true],
      [rest.subarray(old.length), false],
    ] as const) {
      if (piece.length === 0) continue;
      this.#offset += piece.length;
      effects.push({ type: "output", id: this.#id, bytes: piece, replay, offset: this.#offset });
    }
    return effects;
  }

  #painted(now: number): Effect[] {
    this.#offset = this.#paintOffset;
    const shown: Effect = {
      type: "output",
      id: this.#id,
      bytes: new Uint8Array(0),
      replay: true,
      offset: this.#offset,
    };
    if (this.options.access === "watch") return [shown];
    return [shown, { type: "fit" }, ...(this.#foreignSize ? this.#ownSize(now) : [])];
  }

  /** Whoever types decides about the size. */
  #ownSize(now: number): Effect[] {
    return this.#foreignSize ? [{ type: "fit" }, ...this.#sendSize(now)] : [];
  }

  #sendSize(now: number): Effect[] {
    if (!this.#size) return [];
    this.#foreignSize = false;
    this.#input.other(now);
    return [{ type: "send", id: this.#id, bytes: resizeFrame(this.#size.cols, this.#size.rows) }];
  }

  #beat(now: number, slept: boolean): Effect[] {
    if (this.#answerBy !== undefined && now >= this.#answerBy) return this.#drop(now, true);
    if (slept) return this.#askForLife(now);
    if (now - this.#lastFrame >= SILENCE_MAX_MS) return this.#drop(now, true);
    const age = now - this.#openedAt;
    const isQuiet = now - this.#lastActivity >= QUIET_MS && this.#input.bytes === 0;
    if (age >= RENEW_AT_MS || (age >= RENEW_FROM_MS && isQuiet)) {
      this.#renewing = true;
      const close: Effect = { type: "close", id: this.#id };
      return [close, ...this.#connect(now)];
    }
    if (now - this.#lastHeartbeat < HEARTBEAT_MS) return [];
    return this.#heartbeat(now);
  }

  #askForLife(now: number): Effect[] {
    this.#answerBy = now + ANSWER_MS;
    return this.#heartbeat(now);
  }

  #heartbeat(now: number): Effect[] {
    this.#lastHeartbeat = now;
    this.#input.other(now);
    return [{ type: "send", id: this.#id, bytes: heartbeatFrame() }];
  }

  #showRenewal(): Effect[] {
    this.#renewing = false;
    return this.#say({ name: "reconnecting", attempt: 1, retryAt: undefined });
  }

  /** Gives a connection up that may still stand. */
  #drop(now: number, atOnce = false): Effect[] {
    const close: Effect = { type: "close", id: this.#id };
    return [close, ...this.#lost(now, atOnce)];
  }

  #lost(now: number, atOnce = false): Effect[] {
    this.#renewing = false;
    this.#attempts += 1;
    const most = this.#wasConfirmed ? ATTEMPTS_MAX : FIRST_ATTEMPTS_MAX;
    if (this.#attempts > most) {
      const reason = this.#notStarted ? "the shell could not be started" : "the server did not answer";
      return this.#finish({ name: "failed", reason });
    }
    const effects: Effect[] = [];
    if (this.#input.bytes > OFFLINE_BYTES_MAX) {
      const forgotten = this.#input.clear();
      effects.push({ type: "notice", text: `connection lost: ${forgotten} bytes of input were not sent` });
    }
    if (this.#paintLeft > 0) {
      this.#paintLeft = 0;
      this.#offset = undefined;
    }
    if (atOnce) return [...effects, ...this.#connect(now)];
    this.#phase = "waiting";
    this.#retryAt = now + backoffMs(this.#attempts, this.options.random());
    const state: State = this.#wasConfirmed
      ? { name: "reconnecting", attempt: this.#attempts, retryAt: this.#retryAt }
      : { name: "connecting" };
    return [...effects, ...this.#say(state)];
  }

  #finish(state: State): Effect[] {
    this.#phase = "over";
    this.#renewing = false;
    const forgotten = this.#input.clear();
    this.#input.clear();
    const effects: Effect[] = [{ type: "close", id: this.#id }, ...this.#say(state)];
    if (forgotten > 0) effects.push({ type: "notice", text: `${forgotten} bytes of input were not sent` });
    return effects;
  }

  #say(state: State): Effect[] {
    this.#state = state;
    return [{ type: "state", state }];
  }
}
