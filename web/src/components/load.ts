/** Loads what a page shows once, and again on demand; what changes by itself is pushed instead. */
import { useCallback, useEffect, useState } from "preact/hooks";
import { explain } from "./toast";

/** What is known of something that was asked for. */
export interface Loaded<T> {
  readonly value: T | undefined;
  readonly failure: string | null;
  readonly reload: () => void;
}

/** Asks for something when the component appears and whenever `deps` change; late answers are dropped. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, deps: readonly unknown[]): Loaded<T> {
  const [state, setState] = useState<{ readonly value?: T; readonly failure: string | null }>({
    failure: null,
  });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      (value) => !stop.signal.aborted && setState({ value, failure: null }),
      (cause: unknown) => {
        const failure = explain(cause);
        if (!stop.signal.aborted && failure !== null) setState({ failure });
      },
    );
    return () => stop.abort();
    // The caller names what the answer depends on.
  }, [...deps, round]);
  const reload = useCallback(() => setRound((was) => was + 1), []);
  return { value: state.value, failure: state.failure, reload };
}
