/**
 * Where a recording is played. Forwards, only what lies between is shown; backwards, all of it from the start, so that
 * the screen at a time is always that of everything up to it and nothing else.
 */
import type { Cast, CastEvent } from "./cast";

/** What to do to the screen. */
export interface Steps {
  /** The screen is emptied and has its first size again, before the events. */
  readonly reset: boolean;
  readonly events: readonly CastEvent[];
}

/** The place in a recording. */
export class Playback {
  /** Seconds from the start. */
  position = 0;
  private next = 0;
  private started = false;

  constructor(readonly cast: Cast) {}

  /** Goes to a time: every event up to it, itself included, has happened then. */
  seek(to: number): Steps {
    const target = Math.min(Math.max(0, to), this.cast.length);
    const reset = !this.started || target < this.position;
    const from = reset ? 0 : this.next;
    let end = from;
    while ((this.cast.events[end]?.at ?? Number.POSITIVE_INFINITY) <= target) end += 1;
    this.started = true;
    this.position = target;
    this.next = end;
    return { reset, events: this.cast.events.slice(from, end) };
  }

  /** True when nothing comes any more. */
  get ended(): boolean {
    return this.position >= this.cast.length;
  }
}
