import { expect, it } from "vitest";
import { controlOf } from "./control";

it.each([
  ["c", 3],
  ["z", 26],
  ["A", 1],
  ["[", 27],
  [" ", 0],
  ["?", 127],
  ["1", 0x31],
])("Ctrl and %j is %i", (key, expected) => expect(controlOf(key.charCodeAt(0))).toBe(expected));
