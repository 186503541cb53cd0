import { describe, expect, it } from "vitest";
import { CLIPBOARD_BYTES_MAX, cleanTitle, parseClipboard, safeLink, TITLE_LENGTH_MAX } from "./sanitize";

describe("titles", () => {
  it.each([
    ["vim README.md", "vim README.md"],
    ["a\x1b]0;b\x07c\x00\x9bd\x7f", "a]0;bcd"],
    ["left\u202eright\u2066 in\u2069\u200f", "leftright in"],
    ["two\nlines\u2028more", "twolinesmore"],
    ["<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"],
    ["  spaced  ", "spaced"],
    ["", ""],
  ])("%j becomes %j", (title, expected) => expect(cleanTitle(title)).toBe(expected));

  it("are short, and cut between characters", () => {
    expect([...cleanTitle("😀".repeat(5000))]).toHaveLength(TITLE_LENGTH_MAX);
  });
});

describe("links", () => {
  it.each([
    ["https://example.com/a?b=c#d", "https://example.com/a?b=c#d", "example.com"],
    ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "127.0.0.1:8080"],
    ["https://раураl.com/", "https://xn--l-7sba6dbr.com/", "xn--l-7sba6dbr.com"],
  ])("%s is shown as it is asked for", (text, href, host) => expect(safeLink(text)).toEqual({ href, host }));

  it.each([
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "ftp://example.com",
    "vbscript:x",
    "https://bank.example@evil.example/",
    "https://user:pw@evil.example/",
    "https://exam\u202eple.com/",
    "https://example.com/\u0007",
    "/console",
    "",
    `https://example.com/${"x".repeat(3000)}`,
  ])("%j is none", (text) => expect(safeLink(text)).toBeUndefined());
});

describe("the clipboard", () => {
  const encode = (text: string) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

  it("takes text", () => {
    expect(parseClipboard(`c;${encode("grüße\n")}`)).toEqual({ kind: "write", text: "grüße\n" });
    expect(parseClipboard(`;${encode("x")}`)).toEqual({ kind: "write", text: "x" });
  });

  it("loses control characters, which could end a paste", () => {
    expect(parseClipboard(`c;${encode("a\x1b[201~rm\x03\tb")}`)).toEqual({
      kind: "write",
      text: "a[201~rm\tb",
    });
  });

  it("is never read", () => {
    expect(parseClipboard("c;?")).toEqual({ kind: "read" });
  });

  it("refuses what is too long or no text", () => {
    expect(parseClipboard(`c;${btoa("x".repeat(CLIPBOARD_BYTES_MAX))}`).kind).toBe("write");
    expect(parseClipboard(`c;${btoa("x".repeat(CLIPBOARD_BYTES_MAX + 3))}`)).toEqual({
      kind: "refused",
      reason: "too long",
    });
    expect(parseClipboard(`c;${btoa("\xff\xfe")}`)).toEqual({ kind: "refused", reason: "no text" });
    expect(parseClipboard("c;***")).toEqual({ kind: "refused", reason: "not understood" });
    expect(parseClipboard("nothing")).toEqual({ kind: "refused", reason: "not understood" });
  });
});
