import { expect, it } from "vitest";
import { bytes, count, countdown, duration, percent, since, until, when } from "./format";

it("says lengths of time by their two largest units", () => {
  const check = (ms: number, expected: string) => expect(duration(ms), String(ms)).toBe(expected);
  check(-5, "0s");
  check(999, "0s");
  check(12_345, "12s");
  check(59_999, "59s");
  check(249_000, "4m 09s");
  check(7_500_000, "2h 05m");
  check(86_399_999, "23h 59m");
  check(3 * 86_400_000 + 4 * 3_600_000, "3d 4h");
  check(Number.NaN, "–");
});

it("counts down to the end and not to one before it", () => {
  expect(countdown(1)).toBe("1s");
  expect(countdown(59_001)).toBe("1m 00s");
  expect(countdown(0)).toBe("0s");
  expect(countdown(-1)).toBe("0s");
  const now = Date.parse("2026-01-01T00:00:00Z");
  expect(until("2026-01-01T00:14:59.5Z", now)).toBe("15m 00s");
  expect(until(undefined, now)).toBe("–");
  expect(since("2025-12-31T23:59:00Z", now)).toBe("1m 00s");
  expect(since("not a time", now)).toBe("–");
});

it("says sizes in units of 1024", () => {
  const check = (size: number | undefined, expected: string) =>
    expect(bytes(size), String(size)).toBe(expected);
  check(undefined, "–");
  check(-1, "–");
  check(0, "0 B");
  check(1023, "1023 B");
  check(1024, "1 KiB");
  check(1536, "1.5 KiB");
  check(1024 * 1024 - 1, "1 MiB");
  check(100 * 1024 * 1024, "100 MiB");
  check(1024 ** 3 * 2.25, "2.3 GiB");
  check(1024 ** 6, "1024 PiB");
});

it("says shares, numbers and times", () => {
  expect([
    percent(undefined),
    percent(0),
    percent(0.0004),
    percent(0.034),
    percent(0.0996),
    percent(1.5),
  ]).toEqual(["–", "0 %", "0 %", "3.4 %", "10 %", "150 %"]);
  expect([count(1, "line"), count(50_000, "line")]).toEqual(["1 line", "50,000 lines"]);
  const date = new Date(2026, 0, 2, 3, 4, 5);
  expect(when(date.toISOString())).toBe("2026-01-02 03:04:05");
  expect(when(date.getTime() / 1000)).toBe("2026-01-02 03:04:05");
  expect(when("")).toBe("–");
});
