/**
 * Flow control: a WebSocket of a browser cannot be told to stop reading, and xterm.js throws output away when
 * too much waits to be parsed. So the server is told what has been parsed, and sends no further than a window
 * beyond that. The window is what the parser does in a moment, so that it never runs dry and that what a program
 * printed before Ctrl+C is over at once: the server knows the largest one, and a smaller one is had by telling it
 * of that much less.
 */

/** Bytes that may be on their way or waiting for the parser, at most. */
export const WINDOW_BYTES = 1024 * 1024;

/** And at least, however slow the parser: two frames of the server. */
const WINDOW_BYTES_MIN = 128 * 1024;

/** The window's work for the parser: the time between two pieces of news, and the way there and back on a busy machine. */
const WINDOW_MS = 25;

/** News for the server is worth a frame from here on. */
const ACK_BYTES = WINDOW_BYTES_MIN / 4;

/** And not more often: the server takes 250 frames a second, all kinds together. */
const ACK_INTERVAL_MS = 10;

/**
 * A page that nobody sees is given no time to parse. So that its program goes on all the same, what has arrived
 * counts as dealt with, until so much waits for the parser: far below the 50 MB from which xterm.js drops output.
 */
const HIDDEN_BYTES_MAX = 4 * 1024 * 1024;

/** The account of one connection. */
export class Flow {
  #received = 0;
  #processed = 0;
  #told = 0;
  #toldAt = Number.NEGATIVE_INFINITY;
  #processedThen = 0;
  /** Bytes that were parsed in a millisecond, of late. */
  #speed = 0;

  /** Bytes came. */
  received(bytes: number): void {
    this.#received += bytes;
  }

  /** Bytes were parsed. */
  processed(bytes: number): void {
    this.#processed = Math.min(this.#received, this.#processed + bytes);
  }

  /** Bytes that wait for the parser. */
  get waiting(): number {
    return this.#received - this.#processed;
  }

  /** The count to tell the server now, if it is time for it. */
  take(now: number, hidden: boolean): number | undefined {
    const consumed = this.#consumed(hidden);
    if (consumed - this.#told < ACK_BYTES || now - this.#toldAt < ACK_INTERVAL_MS) return undefined;
    if (now > this.#toldAt && this.#toldAt >= 0) {
      const speed = (this.#processed - this.#processedThen) / (now - this.#toldAt);
      this.#speed += (speed - this.#speed) / 2;
    }
    this.#told = consumed;
    this.#toldAt = now;
    this.#processedThen = this.#processed;
    return consumed;
  }

  /** In how many milliseconds {@link take} has something, unless more happens; `undefined` for never. */
  wait(now: number, hidden: boolean): number | undefined {
    if (this.#consumed(hidden) - this.#told < ACK_BYTES) return undefined;
    return Math.max(0, this.#toldAt + ACK_INTERVAL_MS - now);
  }

  #consumed(hidden: boolean): number {
    const parsed = hidden ? Math.min(this.#received, this.#processed + HIDDEN_BYTES_MAX) : this.#processed;
    const wanted = hidden ? WINDOW_BYTES : Math.max(WINDOW_BYTES_MIN, this.#speed * WINDOW_MS);
    return Math.max(this.#told, parsed - Math.max(0, WINDOW_BYTES - Math.round(wanted)));
  }
}
