import { expect, it } from "vitest";
import { costOf, costText, usageNotes, usedText } from "./cost";
import type { Session, Usage } from "./types";

const costing = (amount: number): Usage => ({ cost: { amount, currency: "EUR" }, notes: [] });

it("says a cost with its currency, or that it is not known", () => {
  const texts = [0, 0.00002, 0.01234, 12, 123.456].map((amount) => costText(costing(amount)));
  expect(texts).toEqual(["0.0000 EUR", "< 0.0001 EUR", "0.0123 EUR", "12.0000 EUR", "123.46 EUR"]);
  expect([costText(undefined), costText({ cost: null })]).toEqual(["–", "–"]);
  const session = (usage: Usage) => ({ usage }) as Session;
  expect([costOf(session(costing(2))), costOf(session({ cost: null }))]).toEqual([2, undefined]);
});

it("says what was used, and why that is not known", () => {
  expect(usedText({ cpuSeconds: 1.25, memoryGbSeconds: 3 })).toBe("1.3s CPU, 3.000 GB s memory");
  expect(usedText({ cpuSeconds: 65, memoryGbSeconds: null })).toBe("1m 05s CPU, – GB s memory");
  expect(usageNotes({ notes: ["a", "b"] })).toBe("a; b");
  expect(usageNotes({ notes: [] })).toBeUndefined();
  expect(usageNotes(undefined)).toContain("does not count");
});
