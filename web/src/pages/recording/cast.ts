/** Recordings of terminals: asciicast v2, read from text that may be cut or wrong anywhere. */

/** Something that happened, in seconds from the start. */
export interface CastEvent {
  readonly at: number;
  /** Output, or a new size. */
  readonly kind: "output" | "resize";
  readonly data: string;
}

/** A recording. */
export interface Cast {
  readonly cols: number;
  readonly rows: number;
  readonly events: readonly CastEvent[];
  /** Seconds from the start to the last event. */
  readonly length: number;
}

/** Columns or rows that a terminal may have; a recording cannot ask for gigabytes of cells. */
const SIDE_MAX = 1000;

/** Reads a recording; lines that are none are passed over. Null when the first line is no header. */
export function parseCast(text: string): Cast | null {
  const end = text.indexOf("\n");
  const header = parse(end < 0 ? text : text.slice(0, end));
  if (typeof header !== "object" || header === null) return null;
  const { version, width, height } = header as Record<string, unknown>;
  if (version !== 2) return null;
  const events: CastEvent[] = [];
  let last = 0;
  for (let at = end < 0 ? text.length : end + 1; at < text.length; ) {
    const newline = text.indexOf("\n", at);
    const stop = newline < 0 ? text.length : newline;
    const event = parseEvent(text.slice(at, stop), last);
    at = stop + 1;
    if (event === null) continue;
    last = event.at;
    events.push(event);
  }
  return { cols: side(width, 80), rows: side(height, 24), events, length: last };
}

/** The same recording with every pause cut to `longest` seconds. */
export function withoutPauses(cast: Cast, longest: number): Cast {
  let cut = 0;
  let before = 0;
  const events = cast.events.map((event) => {
    cut += Math.max(0, event.at - before - longest);
    before = event.at;
    return { ...event, at: event.at - cut };
  });
  return { ...cast, events, length: Math.max(0, cast.length - cut) };
}

/** Reads `80x24`; null for anything else. */
export function parseSize(text: string): { readonly cols: number; readonly rows: number } | null {
  const found = /^(\d{1,5})x(\d{1,5})$/.exec(text);
  if (found === null) return null;
  return { cols: side(Number(found[1]), 80), rows: side(Number(found[2]), 24) };
}

function parseEvent(line: string, last: number): CastEvent | null {
  const event = parse(line);
  if (!Array.isArray(event)) return null;
  const [at, code, data]: unknown[] = event;
  if (typeof at !== "number" || !Number.isFinite(at) || typeof data !== "string") return null;
  // Time never goes back; what claims to be earlier happened at the same time.
  if (code === "o") return { at: Math.max(last, at), kind: "output", data };
  if (code === "r") return { at: Math.max(last, at), kind: "resize", data };
  return null;
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function side(value: unknown, usual: number): number {
  return typeof value === "number" && Number.isInteger(value) && value > 0
    ? Math.min(value, SIDE_MAX)
    : usual;
}
