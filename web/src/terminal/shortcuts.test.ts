import { expect, it } from "vitest";
import { actionOf, type Key } from "./shortcuts";

const key = (code: string, held: string): Key => ({
  code,
  altKey: held.includes("A"),
  shiftKey: held.includes("S"),
  ctrlKey: held.includes("C"),
  metaKey: held.includes("M"),
});

it.each([
  ["KeyN", "AS", { do: "new" }],
  ["Digit3", "AS", { do: "tabAt", index: 2 }],
  ["ArrowLeft", "AS", { do: "tab", by: -1 }],
  ["KeyF", "CS", { do: "find" }],
  ["KeyF", "AS", { do: "find" }],
  // All of these belong to the program.
  ["KeyN", "A", undefined],
  ["KeyN", "S", undefined],
  ["KeyN", "CS", undefined],
  ["KeyC", "C", undefined],
  ["KeyN", "CAS", undefined],
  ["KeyN", "ASM", undefined],
  ["KeyQ", "AS", undefined],
  ["Digit0", "AS", undefined],
])("%s with %s", (code, held, expected) => expect(actionOf(key(code, held))).toEqual(expected));
