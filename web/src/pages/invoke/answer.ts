/** What an agent answers, put together as it arrives. */
import { SseParser } from "../../api/sse";

/** The page shows this much of an answer; the rest is counted. */
export const SHOWN_CHARS_MAX = 1_000_000;

/** Puts the pieces of an answer together by its media type. */
export class Answer {
  /** What is shown. */
  text = "";
  /** Bytes that came. */
  bytes = 0;
  /** Events that came, of an event stream. */
  events = 0;
  /** True when more came than is shown. */
  cut = false;
  private readonly sse: SseParser | null;
  private readonly decoder = new TextDecoder();
  private readonly isJson: boolean;

  constructor(mediaType: string) {
    const type = mediaType.split(";")[0]?.trim().toLowerCase() ?? "";
    this.sse = type === "text/event-stream" ? new SseParser() : null;
    this.isJson = type === "application/json" || type.endsWith("+json");
  }

  /** Takes a piece. */
  push(piece: Uint8Array): void {
    this.bytes += piece.byteLength;
    if (this.sse === null) this.add(this.decoder.decode(piece, { stream: true }));
    else this.addEvents(this.sse.push(piece));
  }

  /** Nothing more comes: JSON is set out in lines. */
  end(): void {
    if (this.sse !== null) {
      this.addEvents(this.sse.end());
      return;
    }
    this.add(this.decoder.decode());
    if (this.isJson && !this.cut) this.text = pretty(this.text);
  }

  private addEvents(events: readonly { readonly event: string; readonly data: string }[]): void {
    for (const { event, data } of events) {
      this.events += 1;
      this.add(event === "message" ? `${data}\n` : `${event}: ${data}\n`);
    }
  }

  private add(text: string): void {
    const room = SHOWN_CHARS_MAX - this.text.length;
    if (text.length > room) this.cut = true;
    this.text += text.slice(0, room);
  }
}

/** JSON in lines; anything else as it is. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** What is sent for what was typed: a prompt in its envelope, or JSON as it stands. Null when it is no JSON. */
export function payload(kind: "prompt" | "json", text: string): string | null {
  if (kind === "prompt") return JSON.stringify({ prompt: text });
  try {
    JSON.parse(text);
    return text;
  } catch {
    return null;
  }
}
