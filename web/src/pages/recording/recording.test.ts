import { describe, expect, it } from "vitest";
import { type Cast, parseCast, parseSize, withoutPauses } from "./cast";
import { Playback } from "./playback";

const HEADER = '{"version":2,"width":100,"height":30}';
const TEXT = [HEADER, '[0.5,"o","a"]', '[1,"r","120x40"]', '[1,"o","b"]', '[61,"o","c"]', ""].join("\n");

function cast(text: string): Cast {
  const found = parseCast(text);
  if (found === null) throw new Error("no recording");
  return found;
}

describe("recordings", () => {
  it("are read", () => {
    expect(cast(TEXT)).toEqual({
      cols: 100,
      rows: 30,
      length: 61,
      events: [
        { at: 0.5, kind: "output", data: "a" },
        { at: 1, kind: "resize", data: "120x40" },
        { at: 1, kind: "output", data: "b" },
        { at: 61, kind: "output", data: "c" },
      ],
    });
  });

  it("are read as far as they make sense", () => {
    expect(parseCast("")).toBeNull();
    expect(parseCast("{}")).toBeNull();
    expect(parseCast('{"version":1,"stdout":[]}')).toBeNull();
    const odd = [
      HEADER,
      "[",
      '["x","o","a"]',
      '[5,"o","a"]',
      '[2,"o","back"]',
      '[6,"i","in"]',
      '[7,"o",8]',
      '[8,"o',
    ];
    expect(cast(odd.join("\n")).events).toEqual([
      { at: 5, kind: "output", data: "a" },
      { at: 5, kind: "output", data: "back" },
    ]);
    expect(cast('{"version":2,"width":1e9,"height":-4}')).toMatchObject({ cols: 1000, rows: 24, length: 0 });
  });

  it("have sizes within bounds", () => {
    expect(parseSize("80x24")).toEqual({ cols: 80, rows: 24 });
    expect(parseSize("99999x1")).toEqual({ cols: 1000, rows: 1 });
    for (const bad of ["", "80", "80x24x1", "-1x4", "8e1x2"]) expect(parseSize(bad), bad).toBeNull();
  });

  it("lose their pauses and nothing else", () => {
    const short = withoutPauses(cast(TEXT), 1.5);
    expect(short.events.map((event) => event.at)).toEqual([0.5, 1, 1, 2.5]);
    expect(short.length).toBe(2.5);
  });
});

describe("playing", () => {
  /** What a screen shows that takes the steps. */
  class Screen {
    text = "";
    take(steps: ReturnType<Playback["seek"]>): void {
      if (steps.reset) this.text = "";
      for (const event of steps.events) this.text += event.kind === "output" ? event.data : `<${event.data}>`;
    }
  }

  it("shows exactly what was there at a time, however one got there", () => {
    const events = Array.from({ length: 200 }, (_, index) => `[${index * 0.25},"o","${index} "]`);
    const whole = cast([HEADER, ...events].join("\n"));
    const at = (time: number) =>
      whole.events
        .filter((event) => event.at <= time)
        .map((event) => event.data)
        .join("");
    const playback = new Playback(whole);
    const screen = new Screen();
    let seed = 7;
    for (let round = 0; round < 500; round += 1) {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      const to = (seed / 2_147_483_648) * 60 - 5;
      screen.take(playback.seek(to));
      expect(playback.position).toBe(Math.min(Math.max(0, to), whole.length));
      expect(screen.text).toBe(at(playback.position));
    }
  });

  it("begins with an empty screen, stays within the recording, and knows its end", () => {
    const playback = new Playback(cast(TEXT));
    expect(playback.seek(0)).toEqual({ reset: true, events: [] });
    expect(playback.seek(0)).toEqual({ reset: false, events: [] });
    expect(playback.seek(1).events.map((event) => event.data)).toEqual(["a", "120x40", "b"]);
    expect(playback.ended).toBe(false);
    expect(playback.seek(Number.POSITIVE_INFINITY).events.map((event) => event.data)).toEqual(["c"]);
    expect([playback.ended, playback.position]).toEqual([true, 61]);
    expect(playback.seek(0.5)).toMatchObject({ reset: true, events: [{ data: "a" }] });
  });
});
