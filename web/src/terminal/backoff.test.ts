import { describe, expect, it } from "vitest";
import { backoffMs, closeMeaning } from "./backoff";

describe("close codes", () => {
  it.each([
    [1000, "ended"],
    [1001, "lost"],
    [1002, "refused"],
    [1003, "refused"],
    [1005, "lost"],
    [1006, "lost"],
    [1007, "refused"],
    [1008, "lost"],
    [1009, "refused"],
    [1010, "refused"],
    [1011, "lost"],
    [1012, "lost"],
    [1013, "lost"],
    [4000, "replaced"],
    [4001, "lost"],
  ])("%i means %s", (code, meaning) => expect(closeMeaning(code)).toBe(meaning));
});

describe("the delay", () => {
  it("doubles up to 15 s, half of it by chance", () => {
    const attempts = [1, 2, 3, 4, 5, 6, 4000];
    expect(attempts.map((attempt) => backoffMs(attempt, 0))).toEqual([
      500, 1000, 2000, 4000, 7500, 7500, 7500,
    ]);
    expect(attempts.map((attempt) => backoffMs(attempt, 1))).toEqual([
      1000, 2000, 4000, 8000, 15_000, 15_000, 15_000,
    ]);
  });
});
