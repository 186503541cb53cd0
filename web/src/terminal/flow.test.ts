import { describe, expect, it } from "vitest";
import { Flow, WINDOW_BYTES } from "./flow";

describe("the window", () => {
  it("is told of what was parsed, a quarter at a time and not too often", () => {
    const flow = new Flow();
    flow.received(200_000);
    flow.processed(50_000);
    expect(flow.take(0, false)).toBeUndefined();
    expect(flow.wait(0, false)).toBeUndefined();
    flow.processed(50_000);
    expect(flow.take(0, false)).toBe(100_000);
    flow.processed(100_000);
    expect(flow.take(5, false)).toBeUndefined();
    expect(flow.wait(5, false)).toBe(5);
    expect(flow.take(10, false)).toBe(200_000);
    expect(flow.take(99, false)).toBeUndefined();
    expect(flow.waiting).toBe(0);
  });

  it("never stands still: a full window always brings news", () => {
    // The server sends while less than the window is not dealt with, and then one frame more at most.
    const flow = new Flow();
    let [sent, told, now] = [0, 0, 0];
    for (let round = 0; round < 2000; round += 1) {
      while (sent - told < WINDOW_BYTES) {
        flow.received(65_535);
        sent += 65_535;
      }
      flow.processed(65_535);
      // About what the parser does: 64 KiB in 4 ms.
      now += 4;
      told = flow.take(now, false) ?? told;
      expect(sent - told).toBeLessThan(WINDOW_BYTES + 65_536);
    }
    expect(told).toBeGreaterThan(2000 * 65_535 - WINDOW_BYTES);
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
    expect(flow.take(150, false)).toBe(6_000_000);
  });
});
