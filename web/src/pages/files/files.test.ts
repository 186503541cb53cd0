import { describe, expect, it } from "vitest";
import { filesHref } from "../../api/sessions";
import type { FileEntry } from "../../api/types";
import { classify, hexDump, imageType, TEXT_BYTES_MAX } from "./content";
import { contentPath, crumbs, entryQuery, join, nameProblem, parent, sortEntries } from "./paths";

const encode = (text: string) => new TextEncoder().encode(text);
const entry = (name: string, more: Partial<FileEntry> = {}): FileEntry => ({
  name,
  kind: "file",
  bytes: 0,
  ...more,
});
const session = { runtimeArn: "arn:r", runtimeName: "r", qualifier: "DEFAULT", sessionId: "s" };

describe("what a file is", () => {
  it("is told by its bytes alone", () => {
    expect(classify(encode("hello ü"), true)).toEqual({ kind: "text", text: "hello ü" });
    expect(classify(encode(""), true)).toEqual({ kind: "text", text: "" });
    expect(classify(encode("<script>alert(1)</script>"), true).kind).toBe("text");
    expect(classify(encode("<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>"), true).kind).toBe(
      "text",
    );
    expect(classify(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 0), true).kind).toBe("binary");
    expect(classify(Uint8Array.of(0xff, 0xfe, 0x41), true).kind).toBe("binary");
  });

  it("is a picture of four kinds and no other", () => {
    expect(imageType(Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 0x1a, 10))).toBe("image/png");
    expect(imageType(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0))).toBe("image/jpeg");
    expect(imageType(encode("GIF89a..."))).toBe("image/gif");
    expect(imageType(encode("RIFF1234WEBPVP8 "))).toBe("image/webp");
    for (const other of ["RIFF1234WAVE", "<svg", "GIF", "%PDF-1.7", "BM"]) {
      expect(imageType(encode(other)), other).toBeNull();
    }
  });

  it("is text also where a character is cut at the end", () => {
    const bytes = encode("häh😀");
    for (let cut = 2; cut < bytes.length; cut += 1) {
      expect(classify(bytes.subarray(0, cut), false).kind, String(cut)).toBe("text");
    }
    expect(TEXT_BYTES_MAX).toBe(1024 * 1024);
  });

  it("is shown as numbers otherwise", () => {
    expect(hexDump(encode("0123456789abcdefg\n"))).toBe(
      "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  0123456789abcdef\n" +
        `00000010  67 0a${" ".repeat(18)}  ${" ".repeat(23)}  g.`,
    );
  });
});

describe("paths", () => {
  it("are put together and taken apart", () => {
    expect([join("/", "a"), join("/a/b", "c"), parent("/a/b"), parent("/a"), parent("/")]).toEqual([
      "/a",
      "/a/b/c",
      "/a",
      "/",
      "/",
    ]);
    expect(crumbs("/a/b")).toEqual([
      { name: "workspace", path: "/" },
      { name: "a", path: "/a" },
      { name: "b", path: "/a/b" },
    ]);
  });

  it("of hostile names stay whole in addresses", () => {
    for (const name of [
      "a&path=/etc",
      "a#b",
      "a?b",
      "line\nbreak",
      "\u202egpj.exe",
      "<b>",
      "100%",
      "a b+c",
      "..",
      '"q"',
    ]) {
      const call = new URL(contentPath(session, entryQuery("/dir", entry(name))), "http://localhost");
      expect(call.pathname).toBe("/clamshell/v1/sessions/s/files/content");
      expect(call.searchParams.getAll("path"), name).toEqual([`/dir/${name}`]);
      // To the server a plus is a plus.
      expect(call.search).not.toContain("+");
      const view = new URL(filesHref(session, join("/dir", name)), "http://localhost");
      expect(view.searchParams.get("path")).toBe(`/dir/${name}`);
    }
  });

  it("that are no UTF-8 are named by what the server gave", () => {
    expect(entryQuery("/d", entry("%FF", { pathBase64: "_w" }))).toEqual({ pathBase64: "_w" });
  });

  it("have names with rules", () => {
    for (const bad of ["", ".", "..", "a/b", "a\u0000", "x".repeat(256), "ü".repeat(128)]) {
      expect(nameProblem(bad), bad).not.toBeNull();
    }
    for (const good of ["a", "...", ".git", "x".repeat(255), "日本語"])
      expect(nameProblem(good), good).toBeNull();
  });

  it("are listed folders first, numbers by value", () => {
    const names = sortEntries([entry("b10"), entry("b9"), entry("z", { kind: "directory" })]).map(
      (one) => one.name,
    );
    expect(names).toEqual(["z", "b9", "b10"]);
  });
});
