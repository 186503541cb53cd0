import { expect, it } from "vitest";
import { parseRenderer } from "./preferences";

it("draws as was chosen, and as the page likes otherwise", () => {
  expect(["webgl", "elements", "auto", "vulkan", "", null].map(parseRenderer)).toEqual([
    "webgl",
    "elements",
    "auto",
    "auto",
    "auto",
    "auto",
  ]);
});
