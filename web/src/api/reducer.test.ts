import { describe, expect, it } from "vitest";
import { apply, EMPTY, type Known, merge, sessionKey, shellKey } from "./reducer";
import type { AuditRecord, Session, Shell } from "./types";

const session = (id: string, more: Partial<Session> = {}): Session => ({
  runtimeArn: "arn:r",
  runtimeName: "r",
  qualifier: "DEFAULT",
  sessionId: id,
  state: "Active",
  runtimeVersion: "1",
  driver: "native",
  createdAt: "2026-01-01T00:00:00Z",
  lastActivityAt: "2026-01-01T00:00:00Z",
  ...more,
});
const shell = (id: string, more: Partial<Shell> = {}): Shell => ({
  runtimeArn: "arn:r",
  runtimeName: "r",
  qualifier: "DEFAULT",
  sessionId: "s",
  shellId: id,
  state: "Attached",
  command: ["/bin/sh"],
  cols: 80,
  rows: 24,
  createdAt: "2026-01-01T00:00:00Z",
  startOffset: 0,
  runOffset: 0,
  endOffset: 0,
  writers: 1,
  watchers: 0,
  ...more,
});
const record = (id: number): AuditRecord => ({ id, at: "", action: "a", outcome: "allowed" });

/** Applies events one after the other. */
function knownAfter(...events: readonly (readonly [string, unknown])[]): Known {
  return events.reduce((known, [name, data], index) => apply(known, name, data, index * 2000), EMPTY);
}

describe("what is known", () => {
  it("is nothing before a snapshot, and all of it after", () => {
    expect(EMPTY.sessions).toBeNull();
    const known = knownAfter(["sessions", { sessions: [session("a"), session("b")] }]);
    expect([...(known.sessions ?? new Map()).keys()]).toEqual([
      sessionKey(session("a")),
      sessionKey(session("b")),
    ]);
  });

  it("changes, grows and shrinks by one", () => {
    const known = knownAfter(
      ["sessions", { sessions: [session("a"), session("b")] }],
      ["session", session("a", { state: "Stopped" })],
      ["session", session("c")],
      ["session-removed", { runtimeArn: "arn:r", qualifier: "DEFAULT", sessionId: "b" }],
    );
    expect([...(known.sessions?.values() ?? [])].map((one) => [one.sessionId, one.state])).toEqual([
      ["a", "Stopped"],
      ["c", "Active"],
    ]);
  });

  it("is replaced by the snapshot after a break", () => {
    const known = knownAfter(
      ["shells", { shells: [shell("a"), shell("gone")] }],
      ["shells", { shells: [shell("a", { state: "Ended" })] }],
    );
    expect([...(known.shells?.values() ?? [])].map((one) => [one.shellId, one.state])).toEqual([
      ["a", "Ended"],
    ]);
  });

  it("takes changes before a snapshot, twice, and removals of what is not there", () => {
    const change = ["shell", shell("a")] as const;
    const gone = ["shell-removed", shell("never")] as const;
    const known = knownAfter(gone, change, change, gone);
    expect([...(known.shells?.keys() ?? [])]).toEqual([shellKey(shell("a"))]);
  });

  it("passes over what cannot be read", () => {
    for (const [name, data] of [
      ["sessions", { sessions: "none" }],
      ["sessions", null],
      ["session", {}],
      ["shell", 7],
      ["audit", { records: 1 }],
      ["unheard-of", { sessions: [] }],
    ] as const) {
      expect(apply(EMPTY, name, data, 0), name).toEqual(EMPTY);
    }
  });

  it("follows the use of running sessions and forgets that of removed ones", () => {
    const usage = (cpuUsageUs: number) => ({
      cpuUsageUs,
      memoryBytes: 1,
      pids: 1,
      workspaceBytes: 0,
      workspaceLimitBytes: 0,
    });
    const key = sessionKey(session("a"));
    const known = knownAfter(
      ["sessions", { sessions: [session("a", { usage: usage(0) })] }],
      ["session", session("a", { usage: usage(1_000_000) })],
    );
    // One second of processor in two seconds.
    expect(known.samples.get(key)?.map((sample) => sample.cpu)).toEqual([undefined, 0.5]);
    expect(apply(known, "session-removed", session("a"), 0).samples.size).toBe(0);
    expect(apply(known, "sessions", { sessions: [] }, 0).samples.size).toBe(0);
  });

  it("finds runtimes by their ARN", () => {
    const runtime = { agentRuntimeArn: "arn:1", agentRuntimeName: "one" };
    const known = knownAfter(
      ["runtimes", { runtimes: [runtime, { ...runtime, agentRuntimeArn: "arn:2" }] }],
      ["runtime-removed", { runtimeArn: "arn:1" }],
      ["runtime", { ...runtime, agentRuntimeArn: "arn:3" }],
    );
    expect([...(known.runtimes?.keys() ?? [])]).toEqual(["arn:2", "arn:3"]);
  });
});

describe("audit records", () => {
  it("are newest first, each once, whatever order they come in", () => {
    const known = knownAfter(
      ["audit", { records: [record(3), record(1)] }],
      ["audit-record", record(10)],
      ["audit-record", record(2)],
      ["audit-record", record(10)],
    );
    expect(known.audit?.map((one) => one.id)).toEqual([10, 3, 2, 1]);
  });

  it("are bounded: the oldest go", () => {
    expect(merge([record(1), record(2)], [record(3)], 2).map((one) => one.id)).toEqual([3, 2]);
  });
});
