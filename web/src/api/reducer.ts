/**
 * What is known of the server, from its events: snapshots replace, changes add or replace one, removals take away.
 * Events may come twice and in any order after a snapshot; what cannot be read is passed over.
 */
import { addSample, type Samples } from "./samples";
import type { AuditRecord, RuntimeSummary, Session, Shell } from "./types";

/** What one may listen to. */
export type Topic = "sessions" | "shells" | "runtimes" | "audit" | "logins";

/** Everything known; null where no snapshot came yet. */
export interface Known {
  readonly sessions: ReadonlyMap<string, Session> | null;
  readonly shells: ReadonlyMap<string, Shell> | null;
  readonly runtimes: ReadonlyMap<string, RuntimeSummary> | null;
  readonly audit: readonly AuditRecord[] | null;
  /** Use of running sessions over the last minutes, by the key of the session. */
  readonly samples: ReadonlyMap<string, Samples>;
}

/** Nothing is known. */
export const EMPTY: Known = {
  sessions: null,
  shells: null,
  runtimes: null,
  audit: null,
  samples: new Map(),
};

/** All names of events. */
export const EVENT_NAMES = [
  "sessions",
  "session",
  "session-removed",
  "shells",
  "shell",
  "shell-removed",
  "runtimes",
  "runtime",
  "runtime-removed",
  "audit",
  "audit-record",
] as const;

/** The page keeps this many records of the audit trail; older ones are loaded on demand. */
export const AUDIT_MAX = 2000;

/** Names a session among all. */
export function sessionKey(of: Pick<Session, "runtimeArn" | "qualifier" | "sessionId">): string {
  return `${of.runtimeArn}|${of.qualifier}|${of.sessionId}`;
}

/** Names a shell among all. */
export function shellKey(of: Pick<Shell, "runtimeArn" | "qualifier" | "sessionId" | "shellId">): string {
  return `${sessionKey(of)}|${of.shellId}`;
}

/** What is known after an event that came at `now`. */
export function apply(known: Known, name: string, data: unknown, now: number): Known {
  if (typeof data !== "object" || data === null) return known;
  switch (name) {
    case "sessions": {
      const sessions = index<Session>(data, "sessions", sessionKey);
      if (sessions === null) return known;
      let samples: ReadonlyMap<string, Samples> = new Map(
        [...known.samples].filter(([key]) => sessions.has(key)),
      );
      for (const session of sessions.values()) samples = sample(samples, session, now, true);
      return { ...known, sessions, samples };
    }
    case "session": {
      const session = data as Session;
      if (typeof session.sessionId !== "string") return known;
      const sessions = new Map(known.sessions);
      sessions.set(sessionKey(session), session);
      return { ...known, sessions, samples: sample(known.samples, session, now) };
    }
    case "session-removed": {
      const key = sessionKey(data as Session);
      const samples = new Map(known.samples);
      samples.delete(key);
      return { ...known, sessions: without(known.sessions, key), samples };
    }
    case "shells": {
      const shells = index<Shell>(data, "shells", shellKey);
      return shells === null ? known : { ...known, shells };
    }
    case "shell": {
      const shell = data as Shell;
      if (typeof shell.shellId !== "string") return known;
      return { ...known, shells: new Map(known.shells).set(shellKey(shell), shell) };
    }
    case "shell-removed":
      return { ...known, shells: without(known.shells, shellKey(data as Shell)) };
    case "runtimes": {
      const runtimes = index<RuntimeSummary>(data, "runtimes", (runtime) => runtime.agentRuntimeArn);
      return runtimes === null ? known : { ...known, runtimes };
    }
    case "runtime": {
      const runtime = data as RuntimeSummary;
      if (typeof runtime.agentRuntimeArn !== "string") return known;
      return { ...known, runtimes: new Map(known.runtimes).set(runtime.agentRuntimeArn, runtime) };
    }
    case "runtime-removed": {
      const { runtimeArn, agentRuntimeArn } = data as { runtimeArn?: string; agentRuntimeArn?: string };
      return { ...known, runtimes: without(known.runtimes, agentRuntimeArn ?? runtimeArn ?? "") };
    }
    case "audit": {
      const records = (data as { records?: unknown }).records;
      return Array.isArray(records) ? { ...known, audit: merge(known.audit ?? [], records) } : known;
    }
    case "audit-record":
      return { ...known, audit: merge(known.audit ?? [], [data as AuditRecord]) };
    default:
      return known;
  }
}

/** Puts records together, newest first, each once. */
export function merge(
  some: readonly AuditRecord[],
  others: readonly AuditRecord[],
  most = AUDIT_MAX,
): readonly AuditRecord[] {
  const byId = new Map<string, AuditRecord>();
  for (const record of some) byId.set(String(record.id), record);
  for (const record of others) byId.set(String(record.id), record);
  return [...byId.values()].sort(newestFirst).slice(0, most);
}

function newestFirst(a: AuditRecord, b: AuditRecord): number {
  const [left, right] = [Number(a.id), Number(b.id)];
  if (!Number.isNaN(left) && !Number.isNaN(right)) return right - left;
  return String(b.id) < String(a.id) ? -1 : 1;
}

function sample(
  samples: ReadonlyMap<string, Samples>,
  session: Session,
  now: number,
  snapshot = false,
): ReadonlyMap<string, Samples> {
  const { cpuUsageUs, memoryBytes } = session.usage ?? {};
  if (cpuUsageUs == null || memoryBytes == null) return samples;
  const key = sessionKey(session);
  const use = { cpuUsageUs, memoryBytes };
  return new Map(samples).set(key, addSample(samples.get(key) ?? [], use, now, snapshot));
}

function index<T>(data: object, list: string, key: (of: T) => string): ReadonlyMap<string, T> | null {
  const items: unknown = (data as Record<string, unknown>)[list];
  if (!Array.isArray(items)) return null;
  return new Map((items as T[]).map((item) => [key(item), item]));
}

function without<T>(map: ReadonlyMap<string, T> | null, key: string): ReadonlyMap<string, T> | null {
  if (map === null || !map.has(key)) return map;
  const next = new Map(map);
  next.delete(key);
  return next;
}
