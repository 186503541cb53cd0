import { describe, expect, it } from "vitest";
import { part, plain, spans } from "./ansi";
import { logPath, Seen } from "./follow";
import { fits, LINE_CHARS_MAX, LINES_MAX, type LogLine, LogList, LogParser, parseLine, wrap } from "./lines";
import { ROW_PX, windowOf } from "./view";

const line = (message: string, more: Partial<LogLine> = {}): LogLine => ({
  timestamp: "2026-01-01T00:00:00Z",
  sessionId: "session-1",
  source: "agent",
  message,
  ...more,
});

describe("lines", () => {
  it("come out of pieces cut anywhere", () => {
    const text = `${JSON.stringify(line("héllo 😀"))}\n${JSON.stringify(line("two"))}\nnot json\n[]\n`;
    const bytes = new TextEncoder().encode(text);
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const parser = new LogParser();
      const found = [...parser.push(bytes.subarray(0, cut)), ...parser.push(bytes.subarray(cut))];
      expect(found.map((one) => one.message)).toEqual(["héllo 😀", "two"]);
    }
  });

  it("are bounded, and show what hides in them", () => {
    expect(parseLine(JSON.stringify(line("x".repeat(100_000))))?.message.length).toBe(LINE_CHARS_MAX + 1);
    expect(parseLine(JSON.stringify(line("a\u202eb\r")))?.message).toBe("a\\u{202e}b\\r");
    expect(parseLine('{"timestamp":5,"message":"m"}')).toMatchObject({
      timestamp: "1970-01-01T00:00:00.005Z",
      source: "",
      message: "m",
    });
    expect(parseLine('{"message":7}')).toBeNull();
  });

  it("are found by what is seen of them", () => {
    const colored = line("\u001b[31mER\u001b[0mROR");
    expect(fits(colored, { text: "error", source: "" })).toBe(true);
    expect(fits(colored, { text: "31m", source: "" })).toBe(false);
    expect(fits(colored, { text: "", source: "platform" })).toBe(false);
    expect(fits(colored, { text: "session-1", source: "agent" })).toBe(true);
  });
});

describe("a list of lines", () => {
  it("holds 50,000 and lets the oldest go", () => {
    const list = new LogList();
    const all = Array.from({ length: LINES_MAX }, (_, index) => line(`line ${index}`));
    expect(list.add(all)).toBe(0);
    expect(list.rows).toHaveLength(LINES_MAX);
    const removed = list.add([line("one more")]);
    expect(removed).toBe(LINES_MAX / 10 + 1);
    expect(list.dropped).toBe(removed);
    expect(list.rows[0]?.line.message).toBe(`line ${removed}`);
    expect(list.rows.at(-1)?.line.message).toBe("one more");
  });

  it("shows what the filter lets through, of old lines and new ones", () => {
    const list = new LogList();
    list.add([line("apple"), line("pear")]);
    list.show({ text: "p", source: "" }, 0);
    list.show({ text: "apple", source: "" }, 0);
    list.add([line("another apple"), line("plum")]);
    expect(list.rows.map((row) => row.line.message)).toEqual(["apple", "another apple"]);
    expect(list.text()).toContain("another apple");
    expect(list.text()).not.toContain("plum");
    list.clear();
    expect([list.rows.length, list.size]).toEqual([0, 0]);
  });

  it("takes a flood in a moment", () => {
    const list = new LogList();
    list.show({ text: "7", source: "" }, 80);
    const started = performance.now();
    for (let batch = 0; batch < 500; batch += 1) {
      list.add(Array.from({ length: 200 }, (_, index) => line(`line ${batch} ${index} ${"x".repeat(100)}`)));
    }
    // 100,000 lines; a second is far more than they take.
    expect(performance.now() - started).toBeLessThan(3000);
    expect(list.size).toBeLessThanOrEqual(LINES_MAX);
  });

  it("has only rows near the window in the page", () => {
    expect(windowOf(0, 600, 50_000)).toEqual({ from: 0, to: 64 });
    const middle = windowOf(25_000 * ROW_PX, 600, 50_000);
    expect(middle.to - middle.from).toBeLessThan(120);
    expect(windowOf(1e9, 600, 10)).toEqual({ from: 0, to: 10 });
    expect(windowOf(0, 600, 0)).toEqual({ from: 0, to: 0 });
  });
});

describe("wrapping", () => {
  it("loses nothing and parts neither characters nor sequences", () => {
    const text = `\u001b[31m${"日本".repeat(30)}\u001b[0m ${"abc😀".repeat(40)}`;
    for (const columns of [20, 21, 33, 80]) {
      const cuts = wrap(text, columns);
      expect(cuts.map(([from, to]) => text.slice(from, to)).join("")).toBe(text);
      for (const [from, to] of cuts) {
        const row = text.slice(from, to);
        expect(/^[\udc00-\udfff]|[\ud800-\udbff]$/.test(row)).toBe(false);
        expect(plain(row)).not.toContain("[");
        const cells = [...plain(row)].reduce((sum, c) => sum + ((c.codePointAt(0) ?? 0) > 0x1100 ? 2 : 1), 0);
        expect(cells).toBeLessThanOrEqual(columns);
      }
    }
    expect(wrap(text, 0)).toEqual([[0, text.length]]);
    expect(wrap("", 80)).toEqual([[0, 0]]);
  });
});

describe("colors", () => {
  it("become classes", () => {
    expect(spans("a\u001b[1;31mb\u001b[0mc\u001b[92md\u001b[39me")).toEqual([
      { text: "a", look: "" },
      { text: "b", look: "ansi-red ansi-bold" },
      { text: "c", look: "" },
      { text: "d", look: "ansi-green" },
      { text: "e", look: "" },
    ]);
    expect(spans("\u001b[38;5;196mx\u001b[48;2;1;2;3my")).toEqual([
      { text: "x", look: "" },
      { text: "y", look: "" },
    ]);
  });

  it("go on in the next row of a wrapped line", () => {
    const text = "\u001b[31mred and more red";
    expect(part(text, 10, 15)).toEqual([{ text: text.slice(10, 15), look: "ansi-red" }]);
  });

  it("are all that sequences can do", () => {
    for (const evil of [
      "\u001b]0;title\u0007",
      "\u001b]8;;https://evil.example\u001b\\",
      "\u001b]52;c;aGk=\u0007",
      "\u001bP1;2q...\u001b\\",
      "\u001b[2J\u001b[H",
      "\u001b[?1049h",
      "\u001bc",
      "\u009b31m",
      "\u0000\u0008\u007f",
      "\u001b]unended",
    ]) {
      expect(plain(`a${evil}`), JSON.stringify(evil)).toBe("a");
      expect(spans(`a${evil}`).map((span) => span.text)).toEqual(["a"]);
    }
    expect(plain("<b>&amp;</b>")).toBe("<b>&amp;</b>");
  });
});

describe("following", () => {
  it("goes on where it broke off, and takes no line twice", () => {
    const seen = new Seen();
    const at = (second: number, message: string) =>
      line(message, { timestamp: `2026-01-01T00:00:0${second}Z` });
    expect(seen.since).toBeUndefined();
    // Two equal lines of one moment are two lines.
    expect(seen.fresh([at(1, "a"), at(2, "b"), at(2, "b")])).toHaveLength(3);
    expect(seen.since).toBe("2026-01-01T00:00:02Z");
    seen.resume();
    const again = seen.fresh([at(2, "b"), at(2, "b"), at(2, "new"), at(3, "c")]);
    expect(again.map((one) => one.message)).toEqual(["new", "c"]);
  });

  it("asks for what was chosen", () => {
    expect(logPath({ runtime: "r&1", endpoint: "DEFAULT" })).toBe(
      "/clamshell/v1/logs?runtime=r%261&endpoint=DEFAULT&follow=true",
    );
    expect(logPath({ runtime: "r", endpoint: "e", session: "s" }, "t")).toContain("&session=s&since=t");
  });
});
