import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { keepPace, Load } from "./pace";

/** A window whose display has a frame each 16 ms. */
function display() {
  let last = 0;
  const asked = new Map<number, ReturnType<typeof setTimeout>>();
  const frames = {
    requestAnimationFrame: (callback: FrameRequestCallback) => {
      last += 1;
      asked.set(
        last,
        setTimeout(() => callback(performance.now()), 16 - (performance.now() % 16)),
      );
      return last;
    },
    cancelAnimationFrame: (id: number) => clearTimeout(asked.get(id)),
  };
  keepPace(frames);
  return frames;
}

/** Frames that are drawn in a second by whoever always asks for the next one. */
function framesOfASecond(frames: ReturnType<typeof display>): number {
  let count = 0;
  let isOver = false;
  const again = () => {
    count += 1;
    if (!isOver) frames.requestAnimationFrame(again);
  };
  frames.requestAnimationFrame(again);
  vi.advanceTimersByTime(1000);
  isOver = true;
  vi.advanceTimersByTime(100);
  return count - 1;
}

describe("the pace", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("is the display's, but twenty frames a second or fewer in a flood", () => {
    const frames = display();
    const load = new Load();
    const typed = load.add(1000);
    expect(framesOfASecond(frames)).toBeGreaterThan(58);
    const flood = load.add(200_000);
    const slow = framesOfASecond(frames);
    expect(slow).toBeGreaterThan(12);
    expect(slow).toBeLessThan(21);
    flood();
    typed();
    expect(framesOfASecond(frames)).toBeGreaterThan(58);
  });

  it("forgets what a terminal had to parse when it is gone", () => {
    const frames = display();
    const load = new Load();
    const parsed = load.add(10_000_000);
    load.end();
    expect(framesOfASecond(frames)).toBeGreaterThan(58);
    parsed();
    const other = new Load();
    other.add(200_000);
    expect(framesOfASecond(frames)).toBeLessThan(21);
    other.end();
  });

  it("draws nothing that was cancelled, however far it has come", () => {
    const frames = display();
    const load = new Load();
    load.add(200_000);
    const drawn: string[] = [];
    frames.requestAnimationFrame(() => drawn.push("first"));
    vi.advanceTimersByTime(16);
    const held = frames.requestAnimationFrame(() => drawn.push("held"));
    const waits = frames.requestAnimationFrame(() => drawn.push("waits for its frame"));
    frames.requestAnimationFrame(() => drawn.push("last"));
    frames.cancelAnimationFrame(held);
    vi.advanceTimersByTime(51);
    frames.cancelAnimationFrame(waits);
    vi.advanceTimersByTime(100);
    expect(drawn).toEqual(["first", "last"]);
    load.end();
  });
});
