/**
 * Flow control: a WebSocket of a browser cannot be told to stop reading, and xterm.js throws output away when
 * too much waits to be parsed. So the server is told what has been parsed, and sends no further than a window
 * beyond that. The window is small, so that what a program printed before Ctrl+C is over in a moment.
 */

/** Bytes that may be on their way or waiting for the parser: some 30 ms of its work. */
export const WINDOW_BYTES = 256 * 1024;

/** News for the server is worth a frame from here on. */
const ACK_BYTES = WINDOW_BYTES / 4;

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
    this.#told = consumed;
    this.#toldAt = now;
    return consumed;
  }

  /** In how many milliseconds {@link take} has something, unless more happens; `undefined` for never. */
  wait(now: number, hidden: boolean): number | undefined {
    if (this.#consumed(hidden) - this.#told < ACK_BYTES) return undefined;
    return Math.max(0, this.#toldAt + ACK_INTERVAL_MS - now);
  }

  #consumed(hidden: boolean): number {
    if (!hidden) return Math.max(this.#processed, this.#told);
    return Math.max(this.#told, Math.min(this.#received, this.#processed + HIDDEN_BYTES_MAX));
  }
}
