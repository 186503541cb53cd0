import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { connection, sessions, startEvents, want } from "./events";
import { me } from "./me";

/** Stands in for the browser's: tests say what happens to it. */
class FakeSource {
  static all: FakeSource[] = [];
  static get last(): FakeSource {
    const last = FakeSource.all.at(-1);
    if (last === undefined) throw new Error("nothing was opened");
    return last;
  }
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;
  private listeners = new Map<string, (event: { data: string }) => void>();
  constructor(readonly url: string) {
    FakeSource.all.push(this);
  }
  addEventListener(name: string, listener: (event: { data: string }) => void): void {
    this.listeners.set(name, listener);
  }
  close(): void {
    this.closed = true;
  }
  emit(name: string, data: unknown): void {
    this.listeners.get(name)?.({ data: typeof data === "string" ? data : JSON.stringify(data) });
  }
}

const session = { runtimeArn: "arn", qualifier: "DEFAULT", sessionId: "s" };
let stop: () => void = () => undefined;
let answer = { signedIn: true };

beforeEach(() => {
  vi.useFakeTimers();
  FakeSource.all = [];
  answer = { signedIn: true };
  vi.stubGlobal("EventSource", FakeSource);
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify(answer)));
  stop = startEvents();
});

afterEach(async () => {
  stop();
  await vi.runAllTimersAsync();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  me.value = null;
});

describe("the stream of events", () => {
  it("is one for all topics that are wanted at a time", async () => {
    const releases = [want(["sessions", "shells"]), want(["sessions"])];
    await vi.advanceTimersByTimeAsync(1);
    expect(FakeSource.all.map((source) => source.url)).toEqual([
      "/clamshell/v1/events?topics=sessions,shells",
    ]);
    const audit = want(["audit"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(FakeSource.all.map((source) => [source.url.split("=")[1], source.closed])).toEqual([
      ["sessions,shells", true],
      ["audit,sessions,shells", false],
    ]);
    for (const release of [...releases, audit]) release();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(FakeSource.all.every((source) => source.closed)).toBe(true);
    expect(connection.value).toBe("off");
  });

  it("says when it is lost, and comes back with ever longer waits", async () => {
    const release = want(["sessions"]);
    await vi.advanceTimersByTimeAsync(1);
    FakeSource.last.onopen?.();
    expect(connection.value).toBe("live");
    FakeSource.last.emit("sessions", { sessions: [session] });
    for (let attempt = 1; attempt <= 8; attempt += 1) {
      FakeSource.last.onerror?.();
      expect(connection.value).toBe("lost");
      await vi.advanceTimersByTimeAsync(Math.min(15_000, 500 * 2 ** (attempt - 1)) + 1);
      expect(FakeSource.all).toHaveLength(attempt + 1);
    }
    // What was known stays in sight meanwhile.
    expect(sessions.value?.size).toBe(1);
    FakeSource.last.onopen?.();
    expect(connection.value).toBe("live");
    FakeSource.last.emit("sessions", { sessions: [] });
    expect(sessions.value?.size).toBe(0);
    release();
  });

  it("shows the login page when it broke because the login has ended", async () => {
    const release = want(["sessions"]);
    await vi.advanceTimersByTimeAsync(1);
    answer = { signedIn: false };
    FakeSource.last.onerror?.();
    await vi.advanceTimersByTimeAsync(1000);
    expect(me.value?.signedIn).toBe(false);
    release();
  });

  it("says so when this person may not watch, and does not ask for ever", async () => {
    vi.stubGlobal("fetch", async (path: string) =>
      path.includes("/events")
        ? Response.json({ message: "not authorized" }, { status: 403 })
        : Response.json({ signedIn: true }),
    );
    const release = want(["sessions"]);
    await vi.advanceTimersByTimeAsync(1);
    FakeSource.last.onerror?.();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(connection.value).toBe("refused");
    expect(FakeSource.all).toHaveLength(1);
    release();
  });

  it("passes over what is no JSON, and what an older stream still says", async () => {
    const release = want(["sessions"]);
    await vi.advanceTimersByTimeAsync(1);
    const old = FakeSource.last;
    old.emit("sessions", "{");
    expect(sessions.value).toBeNull();
    old.onerror?.();
    await vi.advanceTimersByTimeAsync(1000);
    old.emit("sessions", { sessions: [session] });
    old.onerror?.();
    expect(sessions.value).toBeNull();
    expect(FakeSource.all).toHaveLength(2);
    release();
  });

  it("is forgotten with the login", async () => {
    const release = want(["sessions"]);
    await vi.advanceTimersByTimeAsync(1);
    FakeSource.last.emit("sessions", { sessions: [session] });
    expect(sessions.value?.size).toBe(1);
    stop();
    expect(sessions.value).toBeNull();
    expect(FakeSource.last.closed).toBe(true);
    // And begins anew with the next.
    stop = startEvents();
    await vi.advanceTimersByTimeAsync(1);
    expect(FakeSource.all.map((source) => source.closed)).toEqual([true, false]);
    release();
  });
});
