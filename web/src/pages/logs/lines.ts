/** Lines of a log as they arrive: JSON lines out of pieces cut anywhere, and a list of them with an end. */
import { printable } from "../../components/printable";
import { plain } from "./ansi";

/** A line. */
export interface LogLine {
  readonly timestamp: string;
  readonly sessionId: string;
  readonly source: string;
  readonly message: string;
}

/** The page holds so many lines; the oldest go, a tenth at a time. */
export const LINES_MAX = 50_000;
/** A longer line is cut: nobody reads it here, and it is whole in the command line's output. */
export const LINE_CHARS_MAX = 16_384;

/** Bytes in, lines out; what is no line of a log is passed over. */
export class LogParser {
  private readonly decoder = new TextDecoder();
  private rest = "";

  /** Takes a piece and gives the lines that it completes. */
  push(piece: Uint8Array): readonly LogLine[] {
    const parts = (this.rest + this.decoder.decode(piece, { stream: true })).split("\n");
    this.rest = parts.pop() ?? "";
    return parts.map(parseLine).filter((line) => line !== null);
  }
}

/** Reads a line of a log; null when it is none. */
export function parseLine(text: string): LogLine | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { timestamp, sessionId, source, message } = value as Record<string, unknown>;
  if (typeof message !== "string") return null;
  const word = (of: unknown) => (typeof of === "string" ? of : "");
  const cut = message.length > LINE_CHARS_MAX ? `${message.slice(0, LINE_CHARS_MAX)}…` : message;
  return {
    timestamp: typeof timestamp === "number" ? new Date(timestamp).toISOString() : word(timestamp),
    sessionId: word(sessionId),
    source: word(source),
    message: shownMessage(cut),
  };
}

/** What of a log is shown. */
export interface LogFilter {
  readonly text: string;
  readonly source: string;
}

/** True when a filter lets a line through. */
export function fits(line: LogLine, filter: LogFilter): boolean {
  if (filter.source !== "" && line.source !== filter.source) return false;
  if (filter.text === "") return true;
  const wanted = filter.text.toLowerCase();
  return plain(line.message).toLowerCase().includes(wanted) || line.sessionId.toLowerCase().includes(wanted);
}

/** A row of the screen: a line, or a part of one that is wrapped. */
export interface Row {
  readonly line: LogLine;
  /** Which part of the message. */
  readonly from: number;
  readonly to: number;
}

/**
 * The lines that pass the filter, cut into rows of the screen's width. Each line is looked at once when it comes;
 * only a change of the filter or the width looks at all of them again.
 */
export class LogList {
  private lines: LogLine[] = [];
  private shownRows: Row[] = [];
  private filter: LogFilter = { text: "", source: "" };
  /** Characters of a row; 0 does not wrap. */
  private columns = 0;
  /** Lines that were let go because there were too many. */
  dropped = 0;

  /** The rows, oldest first. */
  get rows(): readonly Row[] {
    return this.shownRows;
  }

  /** How many lines are held. */
  get size(): number {
    return this.lines.length;
  }

  /** Adds lines at the end. Gives how many rows went at the beginning, so that a view can stay where it is. */
  add(lines: readonly LogLine[]): number {
    for (const line of lines) {
      this.lines.push(line);
      this.addRows(line);
    }
    const over = this.lines.length - LINES_MAX;
    if (over <= 0) return 0;
    const gone = Math.min(this.lines.length, over + LINES_MAX / 10);
    this.dropped += gone;
    const removed = this.lines.splice(0, gone).filter((line) => fits(line, this.filter));
    const rows = removed.reduce((sum, line) => sum + this.cut(line).length, 0);
    this.shownRows.splice(0, rows);
    return rows;
  }

  /** Shows other lines, or in another width. */
  show(filter: LogFilter, columns: number): void {
    if (
      filter.text === this.filter.text &&
      filter.source === this.filter.source &&
      columns === this.columns
    ) {
      return;
    }
    this.filter = filter;
    this.columns = columns;
    this.shownRows = [];
    for (const line of this.lines) this.addRows(line);
  }

  /** Forgets all lines. */
  clear(): void {
    this.lines = [];
    this.shownRows = [];
    this.dropped = 0;
  }

  /** The lines that are shown, as text to copy. */
  text(): string {
    const shown = this.lines.filter((line) => fits(line, this.filter));
    return shown.map((line) => `${line.timestamp} ${line.sessionId} ${plain(line.message)}`).join("\n");
  }

  private addRows(line: LogLine): void {
    if (fits(line, this.filter)) this.shownRows.push(...this.cut(line));
  }

  private cut(line: LogLine): readonly Row[] {
    return wrap(line.message, this.columns).map(([from, to]) => ({ line, from, to }));
  }
}

/**
 * Where a text is cut into rows of so many columns; sequences take none and wide characters two. Without columns it is
 * one row. Places are those in the text with its sequences, which a cut never parts.
 */
export function wrap(text: string, columns: number): readonly (readonly [from: number, to: number])[] {
  if (columns <= 0 || text.length <= Math.min(columns, 20)) return [[0, text.length]];
  const cuts: [number, number][] = [];
  let [from, width] = [0, 0];
  let at = 0;
  while (at < text.length) {
    const code = text.codePointAt(at) ?? 0;
    const step = code === 0x1b ? sequenceLength(text, at) : code > 0xffff ? 2 : 1;
    const cells = code === 0x1b || code < 0x20 ? 0 : isWide(code) ? 2 : 1;
    if (width + cells > columns && at > from) {
      cuts.push([from, at]);
      from = at;
      width = 0;
    }
    width += code === 0x09 ? 8 : cells;
    at += step;
  }
  cuts.push([from, text.length]);
  return cuts;
}

function sequenceLength(text: string, at: number): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape is what is looked for.
  return /^\u001b(?:\[[0-?]*[ -/]*[@-~]?|[ -/]*[0-~]?)/.exec(text.slice(at, at + 64))?.[0].length ?? 1;
}

/** East Asian wide characters and emoji, roughly: enough to know where a row ends. */
function isWide(code: number): boolean {
  return (
    code >= 0x1100 &&
    (code <= 0x115f ||
      (code >= 0x2e80 && code <= 0xa4cf) ||
      (code >= 0xac00 && code <= 0xd7a3) ||
      (code >= 0xf900 && code <= 0xfaff) ||
      (code >= 0xfe30 && code <= 0xfe6f) ||
      (code >= 0xff00 && code <= 0xff60) ||
      (code >= 0x1f300 && code <= 0x1faff) ||
      (code >= 0x20000 && code <= 0x3fffd))
  );
}

/** A message as it is shown: colors stay for {@link wrap} and the spans; what hides is written out. */
export function shownMessage(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape stays for the colors.
  return message.replace(/[^\u001b\t]+/g, printable);
}
