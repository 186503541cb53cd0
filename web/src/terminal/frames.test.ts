import { describe, expect, it } from "vitest";
import { consumedFrame, heartbeatFrame, parseFrame, parseStatus, resizeFrame, stdinFrame } from "./frames";

const text = (json: string) => new TextEncoder().encode(json);
const status = (rest: string) => parseStatus(text(`{"kind":"Status","apiVersion":"v1",${rest}}`));

describe("frames of the server", () => {
  it("are told by their channel", () => {
    expect(parseFrame(Uint8Array.of(1, 104, 105))).toEqual({ kind: "stdout", bytes: text("hi") });
    expect(parseFrame(Uint8Array.of(2, 104))).toEqual({ kind: "stderr", bytes: text("h") });
    expect(parseFrame(Uint8Array.of(5))).toEqual({ kind: "heartbeat" });
    expect(parseFrame(Uint8Array.of(0xff))).toEqual({ kind: "close" });
    for (const bytes of [[], [0], [4, 1], [6], [0x77, 1], [3, 0x7b]]) {
      expect(parseFrame(Uint8Array.from(bytes))).toEqual({ kind: "unknown" });
    }
  });

  it("carry what the platform says", () => {
    const check = (rest: string, expected: unknown) => expect(status(rest)).toEqual(expected);
    check('"metadata":{"shellId":"a","reconnected":true,"offset":70000},"status":"Success"', {
      kind: "confirmed",
      reconnected: true,
      offset: 70_000,
    });
    check('"metadata":{"shellId":"a","gap":{"from":5,"to":9}},"status":"Success"', {
      kind: "gap",
      from: 5,
      to: 9,
    });
    check('"metadata":{"shellId":"a","resized":{"cols":120,"rows":40}},"status":"Success"', {
      kind: "resized",
      cols: 120,
      rows: 40,
    });
    check('"metadata":{"shellId":"a","screen":{"offset":9,"bytes":2000}},"status":"Success"', {
      kind: "screen",
      offset: 9,
      bytes: 2000,
    });
    check('"metadata":{"shellId":"a","run":{"offset":7,"end":9,"cols":80,"rows":24}},"status":"Success"', {
      kind: "run",
      offset: 7,
      end: 9,
      cols: 80,
      rows: 24,
    });
    check('"metadata":{},"status":"Success"', { kind: "exited", code: 0, signal: undefined });
    check(
      '"metadata":{},"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"137"},{"reason":"Signal","message":"9"}]}',
      { kind: "exited", code: 137, signal: 9 },
    );
    check('"metadata":{},"status":"Failure","reason":"InternalError","message":"gone"', {
      kind: "failed",
      message: "gone",
    });
  });

  it("are refused when they are hostile", () => {
    for (const rest of [
      '"metadata":{"shellId":"a","gap":{"from":9,"to":9}},"status":"Success"',
      '"metadata":{"shellId":"a","gap":{"from":-1,"to":9}},"status":"Success"',
      '"metadata":{"shellId":"a","resized":{"cols":0,"rows":9}},"status":"Success"',
      '"metadata":{"shellId":"a","resized":{"cols":1e9,"rows":9}},"status":"Success"',
      '"metadata":{"shellId":"a","screen":{"offset":1.5,"bytes":9}},"status":"Success"',
      '"metadata":{"shellId":"a","run":{"offset":1,"end":2,"cols":"80","rows":9}},"status":"Success"',
    ]) {
      expect(status(rest), rest).toBeUndefined();
    }
    for (const json of ["", "[]", "null", "{}", '{"kind":"Pod","apiVersion":"v1"}', "x".repeat(70_000)]) {
      expect(parseStatus(text(json)), json.slice(0, 20)).toBeUndefined();
    }
  });
});

describe("frames of the page", () => {
  it("are written as the server reads them", () => {
    expect([...stdinFrame(text("ls"))]).toEqual([0, 108, 115]);
    expect(new TextDecoder().decode(resizeFrame(80, 24).subarray(1))).toBe('{"width":80,"height":24}');
    expect(resizeFrame(80, 24)[0]).toBe(4);
    expect([...heartbeatFrame()]).toEqual([5]);
    expect([...consumedFrame(65_538)]).toEqual([6, 0, 0, 0, 0, 0, 1, 0, 2]);
    expect([...consumedFrame(2 ** 40)]).toEqual([6, 0, 0, 1, 0, 0, 0, 0, 0]);
  });
});
