import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { State } from "./effects";
import { attachUrl, monotonicClock, ShellSocket, type Sink } from "./socket";

const ADDRESS = { runtime: "arn:a/b", qualifier: "DEFAULT", session: "s 1", shell: "x" };
const WISH = {
  from: "offset:7",
  access: "write",
  create: true,
  takeover: true,
  window: 524_288,
  answers: "told",
} as const;

describe("the address", () => {
  it("is on the page's own host, encrypted when the page is", () => {
    const url = new URL(attachUrl(ADDRESS, WISH, "https://agents.example/console/terminal?x#y"));
    expect(`${url.protocol}//${url.host}${url.pathname}`).toBe(
      "wss://agents.example/clamshell/v1/sessions/s%201/shells/x/attach",
    );
    expect(Object.fromEntries(url.searchParams)).toEqual({
      runtime: "arn:a/b",
      qualifier: "DEFAULT",
      from: "offset:7",
      access: "write",
      window: "524288",
      answers: "told",
      create: "true",
      command: "default",
      takeover: "true",
    });
    const plain = { ...WISH, create: false, takeover: false };
    const loopback = attachUrl(ADDRESS, plain, "http://127.0.0.1:7878/");
    expect(loopback).toMatch(/^ws:\/\/127\.0\.0\.1:7878\//);
    expect(loopback).not.toMatch(/create|takeover|command/);
  });
});

/** Stands in for the browser's WebSocket. */
class FakeSocket {
  static readonly OPEN = 1;
  static all: FakeSocket[] = [];
  readyState = 0;
  bufferedAmount = 0;
  binaryType = "";
  sent: Uint8Array[] = [];
  closedWith: number | undefined;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  constructor(
    readonly url: string,
    readonly protocols: readonly string[],
  ) {
    FakeSocket.all.push(this);
  }

  send(bytes: Uint8Array): void {
    this.sent.push(bytes);
  }

  close(code: number): void {
    this.closedWith = code;
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  frame(channel: number, payload: Uint8Array): void {
    this.onmessage?.({ data: Uint8Array.of(channel, ...payload).buffer });
  }

  confirm(): void {
    this.status({ shellId: "x", reconnected: false, offset: 0 });
    this.status({ shellId: "x", run: { offset: 0, end: 0, cols: 80, rows: 24 } });
  }

  private status(metadata: object): void {
    this.frame(3, new TextEncoder().encode(JSON.stringify({ kind: "Status", apiVersion: "v1", metadata })));
  }
}

function build(share?: string) {
  const shown: string[] = [];
  const states: State["name"][] = [];
  const sink: Sink = {
    output: (bytes, _replay, _offset, done) => {
      shown.push(new TextDecoder().decode(bytes));
      done();
    },
    answers: () => {},
    reset: () => {},
    size: () => {},
    fit: () => {},
    gap: () => {},
    notice: () => {},
    progress: () => {},
    state: (state) => states.push(state.name),
  };
  const socket = new ShellSocket(
    share === undefined ? ADDRESS : { ...ADDRESS, share },
    { access: "write", create: true },
    sink,
  );
  return { socket, shown, states };
}

const last = () => FakeSocket.all.at(-1) ?? expect.fail("no WebSocket was made");

describe("a WebSocket", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("WebSocket", FakeSocket);
    FakeSocket.all = [];
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });

  it("carries output, input and the size", () => {
    const { socket, shown, states } = build();
    socket.resize(80, 24);
    socket.start();
    expect(last().protocols).toEqual(["clamshell.v1"]);
    last().open();
    last().confirm();
    last().frame(1, new TextEncoder().encode("hello"));
    socket.input(new TextEncoder().encode("ls\r"));
    expect(shown).toEqual(["hello"]);
    expect(states).toEqual(["connecting", "live"]);
    expect(last().sent.map((frame) => frame[0])).toEqual([4, 0]);
    socket.dispose();
    expect(last().closedWith).toBe(1000);
  });

  it("is made anew after it was lost, and text messages are nobody's", async () => {
    const { socket, states } = build();
    socket.start();
    last().open();
    last().confirm();
    last().onmessage?.({ data: "text" });
    last().onclose?.({ code: 1006, reason: "" });
    expect(states.at(-1)).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(1100);
    expect(FakeSocket.all).toHaveLength(2);
    expect(last().url).toContain("from=offset%3A0");
    socket.dispose();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it("beats by itself", async () => {
    const { socket } = build();
    socket.start();
    last().open();
    last().confirm();
    await vi.advanceTimersByTimeAsync(31_000);
    expect(last().sent.map((frame) => frame[0])).toEqual([5]);
    socket.dispose();
  });

  it("shows a share's token to the server alone", () => {
    const { socket } = build("secret");
    socket.start();
    expect(last().protocols).toEqual(["clamshell.v1", "clamshell.share.secret"]);
    expect(last().url).not.toContain("secret");
    socket.dispose();
  });
});

it("the clock never goes back and counts sleep", () => {
  const date = vi.spyOn(Date, "now").mockReturnValue(1000);
  const steady = vi.spyOn(performance, "now").mockReturnValue(0);
  const clock = monotonicClock();
  const at = (now: number, since: number) => {
    date.mockReturnValue(now);
    steady.mockReturnValue(since);
    return clock();
  };
  expect(at(1100, 100)).toBe(100);
  expect(at(500, 150)).toBe(150);
  expect(at(3_600_500, 160)).toBe(3_600_150);
  vi.restoreAllMocks();
});
