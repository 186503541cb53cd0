import { expect, it } from "vitest";
import { hides, printable, saveName } from "./printable";

const NAMES: readonly (readonly [string, string])[] = [
  ["plain.txt", "plain.txt"],
  ["a\nb", "a\\nb"],
  ["exe.\u202egpj", "exe.\\u{202e}gpj"],
  ["\u2066x\u2069", "\\u{2066}x\\u{2069}"],
  ["zero\u200bwidth", "zero\\u{200b}width"],
  ["bell\u0007\u001b[31m", "bell\\u{7}\\u{1b}[31m"],
  ["<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"],
  ["日本語 ü 😀", "日本語 ü 😀"],
];

it("writes out what hides in a name, and leaves the rest", () => {
  for (const [name, shown] of NAMES) {
    expect(printable(name), name).toBe(shown);
    expect(hides(name), name).toBe(shown !== name);
  }
});

it("makes names that a browser may save a file as", () => {
  expect(saveName("../../etc/passwd")).toBe(".._.._etc_passwd");
  expect(saveName("a\u202eb\nc")).toBe("a_b_c");
  expect(saveName("..")).toBe("file");
  expect(saveName("")).toBe("file");
  expect(saveName("x".repeat(300))).toHaveLength(200);
});
