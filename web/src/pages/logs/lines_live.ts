/** The lines of a log as they come, for a page: held back while it is paused, counted, and drawn at a picture's pace. */
import { useEffect, useRef, useState } from "preact/hooks";
import { follow } from "./follow";
import { type LogLine, LogList } from "./lines";

/** Which log. */
export interface LogTarget {
  readonly runtime: string;
  readonly endpoint: string;
  /** Empty for all sessions. */
  readonly session: string;
}

/** What a page shows of a log, and how it holds it back. */
export interface LiveLines {
  readonly list: LogList;
  /** Grows with each change; `removed` lines went from the front with the last one. */
  readonly version: { readonly count: number; readonly removed: number };
  readonly live: boolean;
  readonly refused: string | null;
  readonly paused: boolean;
  /** Lines that came while it was paused. */
  readonly waiting: number;
  readonly setPaused: (paused: boolean) => void;
}

/** Follows a log as long as the component is there. */
export function useLines(target: LogTarget): LiveLines {
  const { runtime, endpoint, session } = target;
  const list = useRef(new LogList());
  const waiting = useRef<LogLine[]>([]);
  const isPaused = useRef(false);
  const [version, setVersion] = useState({ count: 0, removed: 0 });
  const [live, setLive] = useState(false);
  const [refused, setRefused] = useState<string | null>(null);
  const [paused, setPaused] = useState(false);

  const take = useRef(() => {
    const lines = waiting.current;
    waiting.current = [];
    if (lines.length === 0) return;
    const removed = list.current.add(lines);
    setVersion((was) => ({ count: was.count + 1, removed }));
  });

  useEffect(() => {
    const stop = new AbortController();
    let frame = 0;
    const listener = {
      onLines: (lines: readonly LogLine[]) => {
        for (const line of lines) waiting.current.push(line);
        if (isPaused.current || frame !== 0) return;
        // However fast lines come, the page is drawn once for each picture of the screen.
        frame = requestAnimationFrame(() => {
          frame = 0;
          if (!isPaused.current) take.current();
        });
      },
      onLive: setLive,
      onRefused: (cause: Error) => setRefused(cause.message),
    };
    void follow({ runtime, endpoint, session }, listener, stop.signal);
    return () => {
      stop.abort();
      cancelAnimationFrame(frame);
    };
  }, [runtime, endpoint, session]);

  return {
    list: list.current,
    version,
    live,
    refused,
    paused,
    waiting: waiting.current.length,
    setPaused: (pause) => {
      if (!pause) take.current();
      isPaused.current = pause;
      setPaused(pause);
    },
  };
}
