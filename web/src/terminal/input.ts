/**
 * What was typed or pasted and is not sent yet. Frames are cut between characters, small pieces are put
 * together, and the rate stays below what the server takes.
 */

/** Most bytes of input in a frame: half of what the server takes. */
export const FRAME_BYTES_MAX = 32 * 1024;

/** Input that is kept while there is no connection. */
export const OFFLINE_BYTES_MAX = 64 * 1024;

/** Input that waits in all: half of what the server keeps for a program that reads none. */
export const INPUT_BYTES_MAX = 2 * 1024 * 1024;

/** No more is sent beyond what a server that counts has passed on: less than it keeps for one terminal. */
export const UNCOUNTED_BYTES_MAX = 64 * 1024;

/** No more is given to the socket while so much waits there. */
const BUFFERED_BYTES_MAX = 256 * 1024;

/** How soon to look again whether the socket has sent something: it does not say so. */
const BUFFERED_WAIT_MS = 15;

const PASTE_END = new TextEncoder().encode("\x1b[201~");
const PASTE_START = "\x1b[200~";

/** From here on input is a paste whose progress is worth showing. */
const LARGE_BYTES = 128 * 1024;

/** Frames per second. With the news of flow control, 100 of them, this stays below the 250 the server takes. */
export class FrameBudget {
  static readonly RATE = 100;
  static readonly BURST = 20;
  #tokens = FrameBudget.BURST;
  #at: number | undefined;

  /** Counts a frame; `false` when there must be none now. */
  take(now: number): boolean {
    this.#refill(now);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Milliseconds until {@link take} gives `true`. */
  wait(now: number): number {
    this.#refill(now);
    return this.#tokens >= 1 ? 0 : Math.ceil(((1 - this.#tokens) * 1000) / FrameBudget.RATE);
  }

  #refill(now: number): void {
    const elapsed = Math.max(0, now - (this.#at ?? now));
    this.#at = Math.max(now, this.#at ?? now);
    this.#tokens = Math.min(FrameBudget.BURST, this.#tokens + (elapsed * FrameBudget.RATE) / 1000);
  }
}

/** Where to cut `bytes` so that the first piece has at most `most` bytes and ends between two characters. */
export function cutPoint(bytes: Uint8Array, most: number): number {
  if (bytes.length <= most) return bytes.length;
  // A character has at most four bytes; what has more continuation bytes than that is no text.
  for (let at = most; at > most - 4 && at > 0; at -= 1) {
    if (((bytes[at] ?? 0) & 0xc0) !== 0x80) return at;
  }
  return most;
}

interface Piece {
  bytes: Uint8Array;
  /** A paste between brackets of which a part has been sent: its end must be sent as well. */
  readonly bracketed: boolean;
  started: boolean;
}

/** The queue. */
export class InputQueue {
  readonly #budget = new FrameBudget();
  #pieces: Piece[] = [];
  #bytes = 0;
  #largest = 0;
  /** Whether the server of this connection counts what it is sent. */
  #isCounted = false;
  /** What the server has passed on, of all that was ever sent; and what was sent since. */
  #passed = 0;
  #sent: Uint8Array[] = [];
  #sentBytes = 0;

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How much of a large paste has been sent, from 0 to 1; `undefined` when none is under way. */
  get progress(): number | undefined {
    return this.#largest >= LARGE_BYTES ? 1 - this.#bytes / this.#largest : undefined;
  }

  /** Adds input, unless more than `most` bytes would wait then: `false`. */
  push(bytes: Uint8Array, most: number): boolean {
    if (this.#bytes + bytes.length > most) return false;
    const bracketed = startsWith(bytes, PASTE_START);
    this.#pieces.push({ bytes, bracketed, started: false });
    this.#bytes += bytes.length;
    this.#largest = Math.max(this.#largest, this.#bytes);
    return true;
  }

  /** Forgets what waits; the end of a paste that was begun stays. Gives how many bytes were forgotten. */
  clear(): number {
    const forgotten = this.#bytes;
    const first = this.#pieces[0];
    this.#pieces = [];
    this.#bytes = 0;
    this.#largest = 0;
    if (first?.bracketed && first.started) this.push(PASTE_END, INPUT_BYTES_MAX);
    return forgotten;
  }

  /** A server that counts has so many bytes; the others are sent again. Gives how many may be lost or not. */
  resume(bytes: number): number {
    this.#isCounted = true;
    const known = bytes - this.#passed;
    if (known < 0 || known > this.#sentBytes) {
      // It counts something else: what is on its way cannot be told from what has come.
      const doubt = this.#sentBytes;
      [this.#passed, this.#sent, this.#sentBytes] = [bytes, [], 0];
      return doubt;
    }
    const all = join(this.#sent);
    const again = all.subarray(known);
    [this.#sent, this.#sentBytes] = [known > 0 ? [all.subarray(0, known)] : [], known];
    if (again.length > 0) {
      this.#pieces.unshift({ bytes: again, bracketed: false, started: false });
      this.#bytes += again.length;
    }
    return 0;
  }

  /** A server that counts has passed so many bytes on: they need not be kept. */
  passed(bytes: number): void {
    let gone = Math.min(bytes - this.#passed, this.#sentBytes);
    if (!this.#isCounted || gone <= 0) return;
    this.#passed += gone;
    this.#sentBytes -= gone;
    for (let first = this.#sent[0]; first && gone > 0; first = this.#sent[0]) {
      if (first.length > gone) {
        this.#sent[0] = first.subarray(gone);
        return;
      }
      gone -= first.length;
      this.#sent.shift();
    }
  }

  /** The server counts nothing: what is on its way is neither certain to come nor sent again. */
  forgetSent(): void {
    this.#isCounted = false;
    [this.#sent, this.#sentBytes] = [[], 0];
  }

  /** The next payloads to send, given how many bytes the socket still holds. */
  take(now: number, buffered: number): Uint8Array[] {
    const payloads: Uint8Array[] = [];
    let held = buffered;
    while (this.#pieces.length > 0 && held <= BUFFERED_BYTES_MAX && !this.#isFull && this.#budget.take(now)) {
      const payload = this.#next();
      payloads.push(payload);
      if (this.#isCounted) {
        this.#sent.push(payload);
        this.#sentBytes += payload.length;
      }
      held += payload.length;
    }
    if (this.#pieces.length === 0) this.#largest = 0;
    return payloads;
  }

  /** Counts a frame of another kind against the rate. */
  other(now: number): void {
    this.#budget.take(now);
  }

  /** Milliseconds until {@link take} may give something; `undefined` when nothing waits. */
  wait(now: number, buffered: number): number | undefined {
    // With news of what was passed on it goes on by itself.
    if (this.#pieces.length === 0 || this.#isFull) return undefined;
    const rate = this.#budget.wait(now);
    return buffered > BUFFERED_BYTES_MAX ? Math.max(rate, BUFFERED_WAIT_MS) : rate;
  }

  get #isFull(): boolean {
    return this.#isCounted && this.#sentBytes >= UNCOUNTED_BYTES_MAX;
  }

  #next(): Uint8Array {
    const parts: Uint8Array[] = [];
    let room = FRAME_BYTES_MAX;
    for (let piece = this.#pieces[0]; piece && room > 0; piece = this.#pieces[0]) {
      const cut = cutPoint(piece.bytes, room);
      // Only the first part may be cut within itself: a later one waits for the next frame.
      if (cut < piece.bytes.length && parts.length > 0) break;
      parts.push(piece.bytes.subarray(0, cut));
      room -= cut;
      if (cut === piece.bytes.length) {
        this.#pieces.shift();
      } else {
        piece.bytes = piece.bytes.subarray(cut);
        piece.started = true;
        break;
      }
    }
    const payload = join(parts);
    this.#bytes -= payload.length;
    return payload;
  }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1 && parts[0]) return parts[0];
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  if (bytes.length < text.length) return false;
  for (let at = 0; at < text.length; at += 1) {
    if (bytes[at] !== text.charCodeAt(at)) return false;
  }
  return true;
}
