/** Follows a log: a long answer of the server, read as it comes, and begun again where it broke off. */
import { API, ApiError, queryOf, send } from "../../api/client";
import { type LogLine, LogParser } from "./lines";

/** What is read. */
export interface LogSource {
  readonly runtime: string;
  readonly endpoint: string;
  readonly session?: string | undefined;
}

/** How the reading goes. */
export interface LogListener {
  readonly onLines: (lines: readonly LogLine[]) => void;
  /** True while lines come, or would come if the agent printed any. */
  readonly onLive: (live: boolean) => void;
  /** The server refuses: no further attempt is made. */
  readonly onRefused: (cause: ApiError) => void;
}

const RETRY_MS = { first: 500, most: 15_000 } as const;

/** The address of a log. */
export function logPath(of: LogSource, since?: string): string {
  const query: Record<string, string> = { runtime: of.runtime, endpoint: of.endpoint, follow: "true" };
  if (of.session) Object.assign(query, { session: of.session });
  if (since !== undefined) Object.assign(query, { since });
  return `${API}/logs${queryOf(query)}`;
}

/** Leaves out lines that were read before the connection broke: those of the very time it goes on from. */
export class Seen {
  private time = "";
  private lines = new Set<string>();
  private resumed = new Set<string>();

  /** The time to go on from; undefined before the first line. */
  get since(): string | undefined {
    return this.time === "" ? undefined : this.time;
  }

  /** Called before going on after a break. */
  resume(): void {
    this.resumed = new Set(this.lines);
  }

  /** The lines that are new. */
  fresh(lines: readonly LogLine[]): readonly LogLine[] {
    return lines.filter((line) => {
      const key = `${line.timestamp}|${line.sessionId}|${line.source}|${line.message}`;
      if (line.timestamp === this.time && this.resumed.has(key)) return false;
      if (line.timestamp > this.time) {
        this.time = line.timestamp;
        this.lines.clear();
        this.resumed.clear();
      }
      if (line.timestamp === this.time) this.lines.add(key);
      return true;
    });
  }
}

/** Follows a log until the signal says to stop. */
export async function follow(of: LogSource, to: LogListener, stop: AbortSignal): Promise<void> {
  const seen = new Seen();
  for (let attempt = 0; !stop.aborted; attempt += 1) {
    try {
      const response = await send("GET", logPath(of, seen.since), { signal: stop });
      to.onLive(true);
      attempt = 0;
      seen.resume();
      const parser = new LogParser();
      const reader = response.body?.getReader();
      while (reader !== undefined) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = seen.fresh(parser.push(value));
        if (lines.length > 0) to.onLines(lines);
      }
    } catch (cause) {
      if (stop.aborted) return;
      if (cause instanceof ApiError && cause.status >= 400 && cause.status < 500) {
        to.onRefused(cause);
        return;
      }
    }
    to.onLive(false);
    const most = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** attempt);
    await pause(most / 2 + (Math.random() * most) / 2, stop);
  }
}

function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
