/** The time, each second anew, for as long as something shows it. */
import { type ReadonlySignal, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

const ticking = signal(Date.now());
let watchers = 0;
let timer: ReturnType<typeof setInterval> | undefined;

/** Milliseconds since 1970, as of the last second. */
export const now: ReadonlySignal<number> = ticking;

/** The time; the component is drawn again every second. */
export function useNow(): number {
  useEffect(() => {
    watchers += 1;
    ticking.value = Date.now();
    timer ??= setInterval(() => {
      ticking.value = Date.now();
    }, 1000);
    return () => {
      watchers -= 1;
      if (watchers > 0) return;
      clearInterval(timer);
      timer = undefined;
    };
  }, []);
  return ticking.value;
}
