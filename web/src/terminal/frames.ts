/**
 * Frames of the terminal's WebSocket: binary messages whose first byte is a channel. What the server sends is
 * parsed as if anybody had sent it: lengths and numbers are bounded, and what is not understood is ignored.
 */

const STDIN = 0x00;
const STDOUT = 0x01;
const STDERR = 0x02;
const STATUS = 0x03;
const RESIZE = 0x04;
const HEARTBEAT = 0x05;
const CONSUMED = 0x06;
const CLOSE = 0xff;

/** A STATUS frame is some hundred bytes; a message for people may be longer. */
const STATUS_BYTES_MAX = 64 * 1024;

/** What the platform says about a shell. */
export type Status =
  /** The connection stands; `reconnected` is false when it started the shell. */
  | { readonly kind: "confirmed"; readonly reconnected: boolean; readonly offset: number | undefined }
  /** Which run of the shell this is, where its log ended at attaching, and its size. */
  | {
      readonly kind: "run";
      readonly offset: number;
      readonly end: number;
      readonly cols: number;
      readonly rows: number;
    }
  | { readonly kind: "gap"; readonly from: number; readonly to: number }
  | { readonly kind: "resized"; readonly cols: number; readonly rows: number }
  /** Whether this terminal answers what the program asks, from the next byte on. */
  | { readonly kind: "answers"; readonly answers: boolean }
  /** The next `bytes` bytes paint the screen as it was at `offset` and do not count. */
  | { readonly kind: "screen"; readonly offset: number; readonly bytes: number }
  /** So many bytes of this terminal's input were taken; the first one of a connection says where to go on. */
  | { readonly kind: "typed"; readonly bytes: number }
  | { readonly kind: "exited"; readonly code: number; readonly signal: number | undefined }
  | { readonly kind: "failed"; readonly message: string };

/** A message of the server. */
export type ServerFrame =
  | { readonly kind: "stdout"; readonly bytes: Uint8Array }
  | { readonly kind: "stderr"; readonly bytes: Uint8Array }
  | { readonly kind: "status"; readonly status: Status }
  | { readonly kind: "heartbeat" }
  | { readonly kind: "close" }
  | { readonly kind: "unknown" };

const UNKNOWN: ServerFrame = { kind: "unknown" };

/** Reads a message of the server; its bytes are not copied. */
export function parseFrame(message: Uint8Array): ServerFrame {
  const payload = message.subarray(1);
  switch (message[0]) {
    case STDOUT:
      return { kind: "stdout", bytes: payload };
    case STDERR:
      return { kind: "stderr", bytes: payload };
    case STATUS: {
      const status = parseStatus(payload);
      return status ? { kind: "status", status } : UNKNOWN;
    }
    case HEARTBEAT:
      return { kind: "heartbeat" };
    case CLOSE:
      return { kind: "close" };
    default:
      return UNKNOWN;
  }
}

/** Reads the JSON of a STATUS frame; `undefined` when it is none. */
export function parseStatus(payload: Uint8Array): Status | undefined {
  if (payload.length > STATUS_BYTES_MAX) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(payload));
  } catch {
    return undefined;
  }
  const status = record(json);
  if (status?.["kind"] !== "Status" || status["apiVersion"] !== "v1") return undefined;
  const metadata = record(status["metadata"]) ?? {};
  return typeof metadata["shellId"] === "string" ? parseNews(metadata) : parseEnd(status);
}

function parseNews(metadata: Record<string, unknown>): Status | undefined {
  const gap = record(metadata["gap"]);
  if (gap) {
    const [from, to] = [count(gap["from"]), count(gap["to"])];
    return from !== undefined && to !== undefined && to > from ? { kind: "gap", from, to } : undefined;
  }
  const resized = record(metadata["resized"]);
  if (resized) {
    const [cols, rows] = [size(resized["cols"]), size(resized["rows"])];
    return cols && rows ? { kind: "resized", cols, rows } : undefined;
  }
  const answers = metadata["answers"];
  if (typeof answers === "boolean") return { kind: "answers", answers };
  const typed = metadata["typed"];
  if (typed !== undefined) {
    const bytes = count(typed);
    return bytes === undefined ? undefined : { kind: "typed", bytes };
  }
  const screen = record(metadata["screen"]);
  if (screen) {
    const [offset, bytes] = [count(screen["offset"]), count(screen["bytes"])];
    return offset !== undefined && bytes !== undefined ? { kind: "screen", offset, bytes } : undefined;
  }
  const run = record(metadata["run"]);
  if (run) {
    const [offset, end] = [count(run["offset"]), count(run["end"])];
    const [cols, rows] = [size(run["cols"]), size(run["rows"])];
    if (offset === undefined || end === undefined || !cols || !rows) return undefined;
    return { kind: "run", offset, end, cols, rows };
  }
  return {
    kind: "confirmed",
    reconnected: metadata["reconnected"] === true,
    offset: count(metadata["offset"]),
  };
}

function parseEnd(status: Record<string, unknown>): Status {
  if (status["status"] === "Success") return { kind: "exited", code: 0, signal: undefined };
  const causes = record(status["details"])?.["causes"];
  const cause = (reason: string): number | undefined => {
    if (!Array.isArray(causes)) return undefined;
    const found = causes.map(record).find((each) => each?.["reason"] === reason);
    const text = found?.["message"];
    return typeof text === "string" && /^-?\d{1,10}$/.test(text) ? Number(text) : undefined;
  };
  const code = cause("ExitCode");
  if (code !== undefined) return { kind: "exited", code, signal: cause("Signal") };
  const message = status["message"] ?? status["reason"];
  return { kind: "failed", message: typeof message === "string" ? message : "" };
}

/** Input for the program. */
export function stdinFrame(bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(1 + bytes.length);
  frame[0] = STDIN;
  frame.set(bytes, 1);
  return frame;
}

/** The size of this terminal. */
export function resizeFrame(cols: number, rows: number): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify({ width: cols, height: rows }));
  const frame = new Uint8Array(1 + json.length);
  frame[0] = RESIZE;
  frame.set(json, 1);
  return frame;
}

/** A sign of life; the server answers with one. */
export function heartbeatFrame(): Uint8Array {
  return Uint8Array.of(HEARTBEAT);
}

/** How many bytes of output this connection's client has dealt with. */
export function consumedFrame(bytes: number): Uint8Array {
  const frame = new Uint8Array(9);
  frame[0] = CONSUMED;
  new DataView(frame.buffer).setBigUint64(1, BigInt(bytes));
  return frame;
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}

/** An offset or a number of bytes. */
function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function size(value: unknown): number | undefined {
  const number = count(value);
  return number !== undefined && number >= 1 && number <= 65_535 ? number : undefined;
}
