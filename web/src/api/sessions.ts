/** Calls on sessions and what is in them. */
import { href } from "../router";
import { API, call, queryOf } from "./client";
import type { Session, Shell } from "./types";

/** What names a session in calls. */
export type SessionName = Pick<Session, "runtimeArn" | "qualifier" | "sessionId">;

/** The path of a call on a session, with further segments and query. */
export function sessionPath(
  of: SessionName,
  segments: readonly string[] = [],
  query: Record<string, string> = {},
): string {
  const path = [of.sessionId, ...segments].map(encodeURIComponent).join("/");
  return `${API}/sessions/${path}${queryOf({ runtime: of.runtimeArn, qualifier: of.qualifier, ...query })}`;
}

/** Ends the compute of a session and keeps its storage. */
export function stopSession(of: SessionName): Promise<Session> {
  return call<Session>("POST", sessionPath(of, ["stop"]));
}

/** Removes a session and everything of it. */
export function removeSession(of: SessionName): Promise<void> {
  return call<void>("DELETE", sessionPath(of));
}

/** Ends a shell; its recording stays. */
export function closeShell(of: Shell): Promise<void> {
  return call<void>("DELETE", sessionPath(of, ["shells", of.shellId]));
}

/** The address of the view of a session. */
export function sessionHref(of: Pick<Session, "runtimeName" | "qualifier" | "sessionId">): string {
  return href(["sessions", of.runtimeName, of.qualifier, of.sessionId]);
}

/** The address of the files of a session. */
export function filesHref(
  of: Pick<Session, "runtimeName" | "qualifier" | "sessionId">,
  path?: string,
): string {
  return href(["files", of.runtimeName, of.qualifier, of.sessionId], { path });
}

/** The address of a terminal: a shell, or a new one in the session. */
export function terminalHref(
  of: Pick<Session, "runtimeName" | "qualifier" | "sessionId">,
  shell?: string,
): string {
  return href(["terminal"], {
    runtime: of.runtimeName,
    qualifier: of.qualifier,
    session: of.sessionId,
    shell,
  });
}

/** The address that opens a terminal in a new session of a runtime. */
export function newTerminalHref(runtime = "default"): string {
  return href(["terminal"], { runtime });
}

/** The address of the recording of a shell. */
export function recordingHref(of: Shell): string {
  return href(["shells", of.runtimeName, of.qualifier, of.sessionId, of.shellId]);
}

/** Finds a session by the segments of an address. */
export function findSession(
  sessions: ReadonlyMap<string, Session> | null,
  path: readonly string[],
): Session | undefined {
  const [, runtime, qualifier, sessionId] = path;
  for (const session of sessions?.values() ?? []) {
    const sameRuntime = session.runtimeName === runtime || session.runtimeArn === runtime;
    if (sameRuntime && session.qualifier === qualifier && session.sessionId === sessionId) return session;
  }
  return undefined;
}
