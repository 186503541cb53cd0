import { describe, expect, it } from "vitest";
import { href, parseRoute } from "./router";

describe("routes", () => {
  it("survive the way to an address and back", () => {
    const path = ["terminal", "a/b c", "100%", "ü"];
    const url = new URL(href(path, { runtime: "r&1", none: undefined }), "http://localhost");
    const route = parseRoute(url.pathname, url.search);
    expect(route.path).toEqual(path);
    expect([...route.query]).toEqual([["runtime", "r&1"]]);
  });

  it("take what cannot be decoded as it is", () => {
    expect(parseRoute("/console/%zz/", "").path).toEqual(["%zz"]);
    expect(parseRoute("/console", "").path).toEqual([]);
  });
});
