/**
 * How much of its disk a session uses. To know it, the server walks through the workspace; so it is not pushed, but
 * asked for once when a session comes into sight, and again when its state has changed.
 */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "./client";
import { sessionKey } from "./reducer";
import { sessionPath } from "./sessions";
import type { Session } from "./types";

/** What a workspace holds. */
export interface Disk {
  readonly bytes?: number | undefined;
  readonly limit?: number | undefined;
  readonly overLimit: boolean;
}

/** Walks at once: more would slow the server down for a page of many sessions. */
const AT_ONCE = 3;
/** Sessions that are remembered. */
const KNOWN_MAX = 1000;

/** By {@link sessionKey}. */
const known = signal<ReadonlyMap<string, Disk>>(new Map());
const asked = new Map<string, string>();
const waiting: Session[] = [];
let running = 0;

/** The disk of a session, as soon as it is known. */
export function useDisk(session: Session): Disk | undefined {
  const key = sessionKey(session);
  useEffect(() => {
    if (asked.get(key) === session.state) return;
    asked.set(key, session.state);
    waiting.push(session);
    next();
  }, [key, session.state]);
  return known.value.get(key);
}

/** How full it is; undefined where that is not known. */
export function diskShare(disk: Disk | undefined): number | undefined {
  if (disk?.bytes === undefined || !disk.limit) return undefined;
  return disk.bytes / disk.limit;
}

function next(): void {
  if (running >= AT_ONCE) return;
  const session = waiting.shift();
  if (session === undefined) return;
  running += 1;
  call<Session>("GET", sessionPath(session))
    .then(({ usage }) => {
      if (usage === undefined) return;
      const disk = {
        bytes: usage.workspaceBytes ?? undefined,
        limit: usage.workspaceLimitBytes,
        overLimit: usage.overLimit === true,
      };
      known.value = new Map([...known.value, [sessionKey(session), disk] as const].slice(-KNOWN_MAX));
    })
    // It was removed meanwhile, or may not be seen: there is nothing to show then.
    .catch(() => undefined)
    .finally(() => {
      running -= 1;
      next();
    });
}
