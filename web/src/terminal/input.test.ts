import { describe, expect, it } from "vitest";
import {
  cutPoint,
  FRAME_BYTES_MAX,
  FrameBudget,
  INPUT_BYTES_MAX,
  InputQueue,
  UNCOUNTED_BYTES_MAX,
} from "./input";
import { seeded } from "./seeded.test-support";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (parts: readonly Uint8Array[]) =>
  new TextDecoder().decode(Uint8Array.from(parts.flatMap((part) => [...part])));

/** All payloads of a queue, with the times at which they may go. */
function drain(queue: InputQueue): { payloads: Uint8Array[]; times: number[] } {
  const payloads: Uint8Array[] = [];
  const times: number[] = [];
  let now = 0;
  while (queue.bytes > 0) {
    for (const payload of queue.take(now, 0)) {
      payloads.push(payload);
      times.push(now);
    }
    now += queue.wait(now, 0) ?? 0;
  }
  return { payloads, times };
}

describe("cutting", () => {
  it("happens between characters", () => {
    const check = (whole: string, most: number, expected: number) =>
      expect(cutPoint(bytes(whole), most), `${whole} ${most}`).toBe(expected);
    check("abc", 3, 3);
    check("abc", 2, 2);
    check("aé", 2, 1);
    check("a€b", 2, 1);
    check("a€b", 3, 1);
    check("a€b", 4, 4);
    check("a😀b", 4, 1);
    check("a😀b", 5, 5);
  });

  it("goes on when it is no text", () => {
    expect(cutPoint(new Uint8Array(10).fill(0x80), 5)).toBe(5);
  });

  it("keeps every byte of random text whole", () => {
    const random = seeded(7);
    const signs = ["a", "é", "€", "😀", "\n", "漢"];
    for (let round = 0; round < 30; round += 1) {
      const whole = Array.from({ length: 40_000 }, () => signs[Math.floor(random() * signs.length)]).join("");
      const queue = new InputQueue();
      expect(queue.push(bytes(whole), INPUT_BYTES_MAX)).toBe(true);
      const { payloads } = drain(queue);
      expect(text(payloads) === whole).toBe(true);
      for (const payload of payloads) {
        expect(payload.length).toBeLessThanOrEqual(FRAME_BYTES_MAX);
        expect(() => new TextDecoder("utf-8", { fatal: true }).decode(payload)).not.toThrow();
      }
    }
  });
});

describe("the rate", () => {
  it("never reaches what the server refuses", () => {
    const random = seeded(11);
    const budget = new FrameBudget();
    const taken: number[] = [];
    for (let now = 0; now < 10_000; now += random() * 4) {
      if (budget.take(now)) taken.push(now);
    }
    for (const end of taken) {
      const within = taken.filter((at) => at <= end && end - at < 1000).length;
      // Beside them go the news of flow control, at most 101 in any second.
      expect(within).toBeLessThan(250 - 101);
    }
    expect(taken.length).toBeGreaterThan(900);
  });

  it("survives a clock that goes back", () => {
    const budget = new FrameBudget();
    budget.take(1000);
    expect(budget.wait(0)).toBe(0);
    expect(budget.take(0)).toBe(true);
  });

  it("puts small pieces together", () => {
    const queue = new InputQueue();
    for (let at = 0; at < 5000; at += 1) queue.push(bytes("x"), INPUT_BYTES_MAX);
    const { payloads } = drain(queue);
    expect(payloads.map((payload) => payload.length)).toEqual([5000]);
  });
});

describe("a large paste", () => {
  const paste = bytes(`\x1b[200~${"0123456789".repeat(100_000)}\x1b[201~`);

  it("goes in pieces, with its progress, and is whole", () => {
    const queue = new InputQueue();
    expect(queue.push(paste, INPUT_BYTES_MAX)).toBe(true);
    expect(queue.progress).toBe(0);
    const first = queue.take(0, 0);
    expect(first.reduce((sum, part) => sum + part.length, 0)).toBeLessThan(400_000);
    expect(queue.progress).toBeGreaterThan(0);
    const rest = drain(queue).payloads;
    expect(text([...first, ...rest]) === new TextDecoder().decode(paste)).toBe(true);
    expect(queue.progress).toBeUndefined();
  });

  it("waits for a socket that is full", () => {
    const queue = new InputQueue();
    queue.push(paste, INPUT_BYTES_MAX);
    expect(queue.take(0, 300_000)).toEqual([]);
    expect(queue.wait(0, 300_000)).toBeGreaterThan(0);
    expect(queue.take(0, 200_000).length).toBeGreaterThan(0);
  });

  it("is ended properly when the rest is dropped", () => {
    const queue = new InputQueue();
    queue.push(paste, INPUT_BYTES_MAX);
    const sent = queue.take(0, 200_000);
    expect(queue.clear()).toBe(paste.length - sent.reduce((sum, part) => sum + part.length, 0));
    queue.push(bytes("\x03"), INPUT_BYTES_MAX);
    expect(text(drain(queue).payloads)).toBe("\x1b[201~\x03");
  });

  it("leaves nothing when nothing was sent", () => {
    const queue = new InputQueue();
    queue.push(paste, INPUT_BYTES_MAX);
    queue.clear();
    expect(queue.bytes).toBe(0);
  });

  it("has a limit", () => {
    const queue = new InputQueue();
    expect(queue.push(new Uint8Array(INPUT_BYTES_MAX), INPUT_BYTES_MAX)).toBe(true);
    expect(queue.push(bytes("x"), INPUT_BYTES_MAX)).toBe(false);
  });
});

describe("a server that counts", () => {
  it("is sent what it has not got, and nothing twice", () => {
    const queue = new InputQueue();
    expect(queue.resume(0)).toBe(0);
    queue.push(bytes("abc"), 100);
    expect(text(queue.take(0, 0))).toBe("abc");
    // It has two of them, and has passed on one.
    expect(queue.resume(2)).toBe(0);
    queue.passed(1);
    queue.push(bytes("d"), 100);
    expect(text(queue.take(1000, 0))).toBe("cd");
    // Another process of it knows of what was passed on alone.
    expect(queue.resume(1)).toBe(0);
    expect(text(queue.take(2000, 0))).toBe("bcd");
    queue.passed(4);
    expect(queue.resume(4)).toBe(0);
    expect(queue.bytes).toBe(0);
  });

  it("that has lost its count is not sent anything again", () => {
    const queue = new InputQueue();
    queue.resume(0);
    queue.push(bytes("abc"), 100);
    queue.take(0, 0);
    queue.passed(2);
    expect(queue.resume(0)).toBe(1);
    queue.push(bytes("d"), 100);
    expect(text(queue.take(1000, 0))).toBe("d");
    expect(queue.resume(0)).toBe(0);
    expect(text(queue.take(2000, 0))).toBe("d");
  });

  it("is not sent more than it keeps", () => {
    const queue = new InputQueue();
    queue.resume(0);
    queue.push(new Uint8Array(5 * UNCOUNTED_BYTES_MAX), INPUT_BYTES_MAX);
    const first = queue.take(0, 0).reduce((sum, part) => sum + part.length, 0);
    expect(first).toBe(UNCOUNTED_BYTES_MAX);
    expect(queue.wait(1000, 0)).toBeUndefined();
    queue.passed(FRAME_BYTES_MAX);
    expect(queue.take(1000, 0).map((part) => part.length)).toEqual([FRAME_BYTES_MAX]);
  });

  it("gets every byte once in 300 lives", () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const random = seeded(seed);
      const below = (limit: number) => Math.floor(random() * limit);
      const queue = new InputQueue();
      let [typed, now, received, passed] = ["", 0, 0, 0];
      let got = "";
      let isOpen = false;
      while (typed.length < 500 || got.length < typed.length) {
        now += 50;
        const dice = below(10);
        if (dice < 3 && typed.length < 500) {
          const piece = String.fromCharCode(97 + below(26)).repeat(1 + below(5));
          typed += piece;
          queue.push(bytes(piece), INPUT_BYTES_MAX);
        } else if (dice < 6 && isOpen) {
          for (const payload of queue.take(now, 0)) {
            // What comes may be cut anywhere when the connection is lost.
            const came = random() < 0.2 ? below(payload.length) : payload.length;
            got += text([payload.subarray(0, came)]);
            received += came;
            if (came === payload.length) continue;
            isOpen = false;
            break;
          }
        } else if (dice === 6) {
          passed += below(received - passed + 1);
          if (isOpen) queue.passed(passed);
        } else if (dice === 7) {
          // The process that had it is gone, and with it what was not passed on.
          got = got.slice(0, passed);
          received = passed;
          isOpen = false;
        } else if (!isOpen) {
          expect(queue.resume(received), `seed ${seed}`).toBe(0);
          isOpen = true;
        }
      }
      expect(got, `seed ${seed}`).toBe(typed);
    }
  });
});
