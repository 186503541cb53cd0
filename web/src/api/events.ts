/**
 * What the server pushes. One stream of events feeds the signals that the pages show; nothing is polled. Pages say
 * which topics they need; the stream is opened anew when that changes, and its snapshots replace what was known.
 */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { API, ApiError, send } from "./client";
import { me, noticeRefusal } from "./me";
import { apply, EMPTY, EVENT_NAMES, type Known, type Topic } from "./reducer";
import type { Samples } from "./samples";
import type { AuditRecord, RuntimeSummary, Session, Shell } from "./types";

/** Whether updates come: not asked for, being opened, live, interrupted, or not allowed to this person. */
export const connection = signal<"off" | "connecting" | "live" | "lost" | "refused">("off");

/** Sessions by {@link sessionKey}; null until the first snapshot. */
export const sessions = signal<ReadonlyMap<string, Session> | null>(null);
/** Shells by {@link shellKey}; null until the first snapshot. */
export const shells = signal<ReadonlyMap<string, Shell> | null>(null);
/** Runtimes by ARN; null until the first snapshot. */
export const runtimes = signal<ReadonlyMap<string, RuntimeSummary> | null>(null);
/** Audit records, newest first; null until the first snapshot. */
export const audit = signal<readonly AuditRecord[] | null>(null);

/** Use of running sessions over the last minutes, by {@link sessionKey}. */
export const samples = signal<ReadonlyMap<string, Samples>>(new Map());

/** Waits between attempts: half fixed, half random of this, doubling. */
const RETRY_MS = { first: 500, most: 15_000 } as const;
/** A topic nobody looks at any more is kept this long: going back and forth opens nothing anew. */
const LINGER_MS = 20_000;

let known: Known = EMPTY;
const wanted = new Map<Topic, number>();
let source: EventSource | null = null;
let openTopics = "";
let attempts = 0;
/** True when the last stream was opened before it broke. */
let everOpened = false;
let timer: ReturnType<typeof setTimeout> | undefined;
let running = false;

/** Begins to follow the server's events, as soon as a page wants a topic. Returns how to stop. */
export function startEvents(): () => void {
  running = true;
  refresh();
  const wake = () => {
    if (connection.value === "lost") connect();
  };
  const onVisible = () => document.visibilityState === "visible" && wake();
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", onVisible);
  return () => {
    running = false;
    removeEventListener("online", wake);
    document.removeEventListener("visibilitychange", onVisible);
    close();
    // The next person's page begins anew, with the topics that it wants.
    openTopics = "";
    attempts = 0;
    connection.value = "off";
    forget();
  };
}

/** Forgets what was told or asked for: somebody else may be here next. */
export function forget(): void {
  show(EMPTY);
}

/** Keeps topics coming while the component is shown. */
export function useTopics(...topics: readonly Topic[]): void {
  useEffect(() => want(topics), [topics.join()]);
}

/** Keeps topics coming until the returned function is called. */
export function want(topics: readonly Topic[]): () => void {
  for (const topic of topics) wanted.set(topic, (wanted.get(topic) ?? 0) + 1);
  refresh();
  let held = true;
  return () => {
    if (!held) return;
    held = false;
    setTimeout(() => {
      for (const topic of topics) {
        const left = (wanted.get(topic) ?? 1) - 1;
        if (left > 0) wanted.set(topic, left);
        else wanted.delete(topic);
      }
      refresh();
    }, LINGER_MS);
  };
}

/** Puts in at once what a call answered, before the server pushes the same. */
export function learn(name: string, data: unknown): void {
  show(apply(known, name, data, Date.now()));
}

function refresh(): void {
  if (!running) return;
  const topics = [...wanted.keys()].sort().join();
  if (topics === openTopics) return;
  openTopics = topics;
  if (topics === "") {
    close();
    connection.value = "off";
    return;
  }
  // Several components of one page ask in the same moment: one stream for all.
  clearTimeout(timer);
  timer = setTimeout(connect, 0);
}

function connect(): void {
  close();
  if (!running || openTopics === "") return;
  if (connection.value !== "lost") connection.value = "connecting";
  const opened = new EventSource(`${API}/events?topics=${openTopics}`);
  source = opened;
  everOpened = false;
  opened.onopen = () => {
    everOpened = true;
    attempts = 0;
    connection.value = "live";
  };
  opened.onerror = () => {
    if (source === opened) retry();
  };
  for (const name of EVENT_NAMES) {
    opened.addEventListener(name, (event: MessageEvent<unknown>) => {
      if (source !== opened || typeof event.data !== "string") return;
      let data: unknown;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      show(apply(known, name, data, Date.now()));
    });
  }
}

/**
 * An EventSource does not tell why it failed: the question who is here shows whether the login has ended, and a stream
 * that was never opened is asked for once more in a way that tells.
 */
function retry(): void {
  close();
  connection.value = "lost";
  const neverOpened = !everOpened;
  const most = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** attempts);
  attempts += 1;
  timer = setTimeout(
    async () => {
      await noticeRefusal();
      if (!running) return;
      if (neverOpened && (await isRefused())) {
        // A change of topics, or the page's next start, tries again.
        if (running && me.value?.signedIn === true) connection.value = "refused";
        return;
      }
      connect();
    },
    most / 2 + (Math.random() * most) / 2,
  );
}

async function isRefused(): Promise<boolean> {
  const stop = new AbortController();
  try {
    await send("GET", `${API}/events?topics=${openTopics}`, { signal: stop.signal });
    return false;
  } catch (cause) {
    return cause instanceof ApiError && cause.status === 403;
  } finally {
    stop.abort();
  }
}

function close(): void {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function show(next: Known): void {
  known = next;
  sessions.value = next.sessions;
  shells.value = next.shells;
  runtimes.value = next.runtimes;
  audit.value = next.audit;
  samples.value = next.samples;
}
