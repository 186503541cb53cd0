import { describe, expect, it } from "vitest";
import { findSession } from "../api/sessions";
import type { AuditRecord, Session, Shell } from "../api/types";
import { parseFontSize, parseTheme } from "../components/preferences";
import { points } from "../components/sparkline";
import { sorted } from "../components/table";
import { detailText, filterRecords, shortResource } from "./audit";
import { Answer, payload, SHOWN_CHARS_MAX } from "./invoke/answer";
import { exportLines } from "./keys";
import { browserName } from "./logins";
import { artifactText } from "./runtime";
import { commandText } from "./runtime_terminal";
import { filterSessions, sortValue } from "./sessions";
import { passwordProblem } from "./settings";
import { shellState, shellTitle } from "./shell_table";
import { roleOf } from "./users";

const session = (sessionId: string, more: Partial<Session> = {}) =>
  ({
    sessionId,
    runtimeName: "agent",
    runtimeArn: "arn",
    qualifier: "DEFAULT",
    state: "Active",
    ...more,
  }) as Session;
const shell = (more: Partial<Shell>) =>
  ({ shellId: "id", command: ["/bin/bash", "-l"], state: "Ended", ...more }) as Shell;
const encode = (text: string) => new TextEncoder().encode(text);

describe("sessions", () => {
  it("are found by text and state", () => {
    const all = [
      session("one"),
      session("two", { state: "Stopped" }),
      session("three", { runtimeName: "ONE" }),
    ];
    const ids = (text: string, state: string) => filterSessions(all, text, state).map((one) => one.sessionId);
    expect(ids("", "all")).toEqual(["one", "two", "three"]);
    expect(ids(" One ", "all")).toEqual(["one", "three"]);
    expect(ids("", "stopped")).toEqual(["two"]);
    expect(ids("", "running")).toEqual(["one", "three"]);
  });

  it("are sorted, and those without a value come last both ways", () => {
    const use = (memoryBytes: number) => ({ memoryBytes }) as NonNullable<Session["usage"]>;
    const all = [session("a"), session("b", { usage: use(10) }), session("c", { usage: use(9) })];
    const order = (down: boolean) =>
      sorted(all, (one) => sortValue(one, "memory", undefined), down).map((one) => one.sessionId);
    expect(order(false)).toEqual(["c", "b", "a"]);
    expect(order(true)).toEqual(["b", "c", "a"]);
  });

  it("are found by their address", () => {
    const all = new Map([["k", session("s")]]);
    expect(findSession(all, ["sessions", "agent", "DEFAULT", "s"])).toBe(all.get("k"));
    expect(findSession(all, ["sessions", "agent", "OTHER", "s"])).toBeUndefined();
    expect(findSession(null, [])).toBeUndefined();
  });
});

describe("shells", () => {
  it("have a name and a state in words", () => {
    expect(shellTitle(shell({ title: "mine", programTitle: "vim" }))).toBe("mine");
    expect(shellTitle(shell({ programTitle: "evil\u202e" }))).toBe("evil\\u{202e}");
    expect(shellTitle(shell({}))).toBe("/bin/bash -l");
    expect(shellState(shell({ exitCode: 3 }))).toBe("Ended, exit code 3");
    expect(shellState(shell({ signal: "SIGKILL" }))).toBe("Ended by SIGKILL");
    expect(shellState(shell({ endReason: "SessionEnded" }))).toBe("Ended with its session");
    expect(shellState(shell({ state: "Detached" }))).toBe("Detached");
  });
});

describe("an answer of an agent", () => {
  /** What is shown of an answer in pieces. */
  const shown = (type: string, ...pieces: readonly string[]) => {
    const answer = new Answer(type);
    for (const piece of pieces) answer.push(encode(piece));
    answer.end();
    return answer;
  };
  it("is set out by its type", () => {
    expect(shown("application/json", '{"a":', "1}").text).toBe('{\n  "a": 1\n}');
    expect(shown("application/json; charset=utf-8", "no json").text).toBe("no json");
    expect(shown("text/plain", "a", "b").text).toBe("ab");
    const events = shown("text/event-stream", "data: on", "e\n\nevent: done\ndata: 2\n\n");
    expect([events.text, events.events]).toEqual(["one\ndone: 2\n", 2]);
  });

  it("is shown up to a limit, and all of it is counted", () => {
    const answer = shown("text/plain", "x".repeat(SHOWN_CHARS_MAX), "yz");
    expect([answer.text.length, answer.cut, answer.bytes]).toEqual([
      SHOWN_CHARS_MAX,
      true,
      SHOWN_CHARS_MAX + 2,
    ]);
  });

  it("is asked for with a prompt or with JSON", () => {
    expect(payload("prompt", 'say "hi"')).toBe('{"prompt":"say \\"hi\\""}');
    expect(payload("json", "[1]")).toBe("[1]");
    expect(payload("json", "{")).toBeNull();
  });
});

describe("the audit trail", () => {
  const records = [
    { id: 1, action: "clamshell:StopSession", outcome: "allowed", userName: "ann" },
    { id: 2, action: "clamshell:RunCommand", outcome: "denied", userName: "bob" },
  ] as AuditRecord[];
  it("is filtered by words and outcome", () => {
    const ids = (text: string, outcome: string) =>
      filterRecords(records, { text, outcome }).map((one) => one.id);
    expect(ids("", "")).toEqual([1, 2]);
    expect(ids("ANN", "")).toEqual([1]);
    expect(ids("", "denied")).toEqual([2]);
    expect(ids("stop", "denied")).toEqual([]);
  });
  it("says details and resources shortly", () => {
    const told = detailText({
      method: "GET",
      path: "/x",
      sessionId: "a\u202e",
      link: true,
      name: "x".repeat(200),
    });
    expect(told).toBe(`sessionId a\\u{202e}, link true, name ${"x".repeat(120)}…`);
    expect([detailText({}), detailText(undefined), detailText("x")]).toEqual(["", "", "x"]);
    expect(shortResource("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a")).toBe("runtime/a");
    expect(shortResource("*")).toBe("*");
  });
});

it("knows the console role of a user by the policy", () => {
  const user = (policies: Record<string, unknown>) =>
    roleOf({ userName: "u", arn: "a", createdAt: "", policies });
  expect(user({ ConsoleRole: { Id: "clamshell-console-role-operator" } })).toBe("operator");
  for (const other of [
    {},
    { ConsoleRole: null },
    { ConsoleRole: { Id: "own" } },
    { Other: { Id: "clamshell-console-role-admin" } },
  ]) {
    expect(user(other)).toBeNull();
  }
});

it("says browsers in few words", () => {
  const chrome =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36";
  expect(browserName(chrome)).toBe("Chrome on Linux");
  expect(browserName("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1")).toBe(
    "Safari on iPhone",
  );
  expect(browserName("curl/8\u202e")).toBe("curl/8\\u{202e}");
  expect(browserName(undefined)).toBe("unknown");
});

it("says artifacts and commands", () => {
  expect(artifactText({ containerConfiguration: { containerUri: "oci:/x" } })).toBe("oci:/x");
  const code = {
    runtime: "PYTHON_3_13",
    entryPoint: ["main.py"],
    code: { s3: { bucket: "b", prefix: "k.zip" } },
  };
  expect(artifactText({ codeConfiguration: code })).toBe("PYTHON_3_13, main.py (s3://b/k.zip)");
  expect(artifactText(undefined)).toBe("–");
  expect(commandText(["/bin/sh", "-lc", "exec it's"])).toBe("/bin/sh -lc 'exec it'\\''s'");
});

it("knows a key's lines, a password's rules and what was chosen before", () => {
  const key = {
    accessKeyId: "AKIA",
    secretAccessKey: "s",
    userName: "u",
    status: "Active",
    createdAt: "",
  } as const;
  expect(exportLines(key, "r", "http://h").split("\n")).toHaveLength(4);
  expect(passwordProblem("short", "short")).toContain("12");
  expect(passwordProblem("long enough it is", "not the same")).not.toBeNull();
  expect(passwordProblem("long enough it is", "long enough it is")).toBeNull();
  expect([parseTheme("dark"), parseTheme("x"), parseTheme(null)]).toEqual(["dark", "system", "system"]);
  expect([parseFontSize("20"), parseFontSize("900"), parseFontSize(null), parseFontSize("x")]).toEqual([
    20, 14, 14, 14,
  ]);
});

it("draws a curve within its box", () => {
  expect(points([], 200, 40, 1)).toBe("");
  expect(points([undefined, 0, 1, 2], 200, 40, 1)).toBe("66.7,40.0 133.3,20.0 200.0,0.0");
});
