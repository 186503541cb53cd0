/** Reads `text/event-stream` from pieces that are cut anywhere, also within a character. */

/** An event of a stream. */
export interface SseEvent {
  readonly event: string;
  readonly data: string;
}

/** A longer event is cut: an agent that never ends one must not fill the memory. */
export const EVENT_CHARS_MAX = 1_000_000;

/** Bytes in, events out. */
export class SseParser {
  private readonly decoder = new TextDecoder();
  private line = "";
  private event = "";
  private data: string[] = [];
  private chars = 0;
  private afterReturn = false;

  /** Takes a piece and gives the events that it completes. */
  push(piece: Uint8Array): readonly SseEvent[] {
    return this.take(this.decoder.decode(piece, { stream: true }));
  }

  /** The stream has ended: what was sent of a last event without its empty line is given as well. */
  end(): readonly SseEvent[] {
    const events = [...this.take(this.decoder.decode())];
    if (this.line !== "") this.field(this.line, events);
    this.line = "";
    this.dispatch(events);
    return events;
  }

  private take(text: string): readonly SseEvent[] {
    const events: SseEvent[] = [];
    let start = 0;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      const isReturn = code === 13;
      if (!isReturn && code !== 10) {
        this.afterReturn = false;
        continue;
      }
      // CRLF is one end of line, also when it comes in two pieces.
      if (code === 10 && this.afterReturn) {
        this.afterReturn = false;
        start = at + 1;
        continue;
      }
      this.afterReturn = isReturn;
      const line = this.line + text.slice(start, at);
      this.line = "";
      start = at + 1;
      if (line === "") this.dispatch(events);
      else this.field(line, events);
    }
    this.line = (this.line + text.slice(start)).slice(0, EVENT_CHARS_MAX);
    return events;
  }

  private field(line: string, events: SseEvent[]): void {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "event") this.event = value;
    if (name !== "data") return;
    if (this.chars + value.length > EVENT_CHARS_MAX) this.dispatch(events);
    this.chars += value.length + 1;
    this.data.push(value);
  }

  private dispatch(events: SseEvent[]): void {
    if (this.data.length > 0) events.push({ event: this.event || "message", data: this.data.join("\n") });
    this.event = "";
    this.data = [];
    this.chars = 0;
  }
}
