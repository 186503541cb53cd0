import { describe, expect, it } from "vitest";
import { Flow, WINDOW_BYTES } from "./flow";

describe("the window", () => {
  it("is told of what was parsed, some at a time and not too often", () => {
    const flow = new Flow();
    const unsaid = WINDOW_BYTES - 128 * 1024;
    flow.received(WINDOW_BYTES + 200_000);
    flow.processed(unsaid + 10_000);
    expect(flow.take(0, false)).toBeUndefined();
    expect(flow.wait(0, false)).toBeUndefined();
    flow.processed(50_000);
    expect(flow.take(0, false)).toBe(60_000);
    flow.processed(40_000);
    expect(flow.take(5, false)).toBeUndefined();
    expect(flow.wait(5, false)).toBe(5);
    expect(flow.take(10, false)).toBe(100_000);
    expect(flow.waiting).toBe(WINDOW_BYTES + 200_000 - unsaid - 100_000);
  });

  /** A server 3 ms away, and a parser that does so many bytes a millisecond, for two seconds. */
  function simulate(speed: number): { parsed: number; waitingMax: number; idle: number } {
    const flow = new Flow();
    const frame = 65_535;
    const onTheWay: { at: number; bytes?: number; told?: number }[] = [];
    let [sent, heard, parsed, waitingMax, idle] = [0, 0, 0, 0, 0];
    for (let now = 0; now < 2000; now += 1) {
      for (; sent - heard < WINDOW_BYTES; sent += frame) onTheWay.push({ at: now + 3, bytes: frame });
      while ((onTheWay[0]?.at ?? Number.POSITIVE_INFINITY) <= now) {
        const { bytes = 0, told = 0 } = onTheWay.shift() ?? {};
        flow.received(bytes);
        heard = Math.max(heard, told);
      }
      const piece = Math.min(speed, flow.waiting);
      flow.processed(piece);
      parsed += piece;
      const told = flow.take(now, false);
      if (told !== undefined) {
        onTheWay.push({ at: now + 3, told });
        expect(told).toBeLessThanOrEqual(parsed);
      }
      expect(sent - parsed).toBeLessThan(WINDOW_BYTES + frame);
      if (now < 1000) continue;
      waitingMax = Math.max(waitingMax, sent - parsed);
      if (piece < speed) idle += 1;
    }
    return { parsed, waitingMax, idle };
  }

  it("never lets a fast parser run dry", () => {
    for (const speed of [60_000, 30_000, 15_000]) expect(simulate(speed).idle).toBe(0);
  });

  it("keeps little waiting for a slow one, which still has all that it can do", () => {
    const { parsed, waitingMax, idle } = simulate(2000);
    expect(parsed).toBeGreaterThan(1990 * 2000);
    expect(idle).toBe(0);
    expect(waitingMax).toBeLessThan(128 * 1024 + 65_536);
  });

  it("lets a program go on for a while that nobody sees", () => {
    const flow = new Flow();
    flow.received(1_000_000);
    expect(flow.take(0, true)).toBe(1_000_000);
    flow.received(9_000_000);
    expect(flow.take(50, true)).toBe(4 * 1024 * 1024);
    // Seen again, what was told stays told.
    expect(flow.take(100, false)).toBeUndefined();
    flow.processed(6_000_000);
    // The smallest window is that much below the largest, which the server goes by.
    expect(flow.take(150, false)).toBe(6_000_000 - (WINDOW_BYTES - 128 * 1024));
  });
});
