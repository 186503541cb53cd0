import { describe, expect, it } from "vitest";
import { EVENT_CHARS_MAX, SseParser } from "./sse";

/** Events of a stream that comes in these pieces. */
function parse(pieces: readonly Uint8Array[]): string[] {
  const parser = new SseParser();
  const events = pieces.flatMap((piece) => [...parser.push(piece)]);
  return [...events, ...parser.end()].map(({ event, data }) => `${event}|${data}`);
}

const encode = (text: string) => new TextEncoder().encode(text);

describe("an event stream", () => {
  const stream =
    'data: {"a":"héllo 😀"}\n\nevent: tool\r\ndata:one\r\ndata: two\r\n\r\n: comment\nid: 7\nretry: 1\n\ndata\n\rdata: ü\r\r';
  const events = ['message|{"a":"héllo 😀"}', "tool|one\ntwo", "message|", "message|ü"];

  it("is read whole", () => {
    expect(parse([encode(stream)])).toEqual(events);
  });

  it("is read the same wherever it is cut, also within characters and ends of lines", () => {
    const bytes = encode(stream);
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      expect(parse([bytes.subarray(0, cut), bytes.subarray(cut)]), `cut at ${cut}`).toEqual(events);
    }
    expect(parse([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(events);
  });

  it("gives what was sent of a last event that never ended", () => {
    expect(parse([encode("data: a\n\ndata: b")])).toEqual(["message|a", "message|b"]);
    expect(parse([encode("event: x\n\n")])).toEqual([]);
  });

  it("keeps no more than a bounded part of an endless event", () => {
    const long = encode(`data: ${"x".repeat(700_000)}\n`);
    const found = parse([long, long, long]);
    expect(found.every((event) => event.length <= EVENT_CHARS_MAX + 10)).toBe(true);
    expect(parse([encode("x".repeat(EVENT_CHARS_MAX)), encode("y".repeat(1000))])).toEqual([]);
  });
});
