/** Short messages in the corner: errors stay until they are closed, notes go by themselves. */
import { signal } from "@preact/signals";
import { ApiError } from "../api/client";

interface Toast {
  readonly id: number;
  readonly kind: "error" | "note";
  readonly text: string;
}

/** More would hide the page; the oldest go. */
const TOASTS_MAX = 4;
/** Long enough to read a sentence. */
const NOTE_MS = 5000;

const toasts = signal<readonly Toast[]>([]);
let lastId = 0;

/** Says that something was done. */
export function note(text: string): void {
  const id = add("note", text);
  setTimeout(() => remove(id), NOTE_MS);
}

/** Says what failed; a call that was stopped on purpose is no failure. */
export function complain(cause: unknown): void {
  const text = explain(cause);
  if (text !== null) add("error", text);
}

/** An error in words for people; null for one that nobody needs to know. */
export function explain(cause: unknown): string | null {
  if (cause instanceof DOMException && cause.name === "AbortError") return null;
  if (cause instanceof ApiError) return cause.message;
  return cause instanceof Error ? cause.message : String(cause);
}

/** Runs a piece of work and complains when it fails. True when it did not. */
export async function attempt(work: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await work();
  } catch (cause) {
    complain(cause);
    return false;
  }
  if (done !== undefined) note(done);
  return true;
}

function add(kind: Toast["kind"], text: string): number {
  lastId += 1;
  const shown = toasts.value.filter((toast) => toast.text !== text);
  toasts.value = [...shown, { id: lastId, kind, text }].slice(-TOASTS_MAX);
  return lastId;
}

function remove(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

/** Where the messages appear. */
export function Toasts() {
  return (
    <div class="toasts">
      {toasts.value.map((toast) => (
        <div key={toast.id} class={`toast ${toast.kind}`} role={toast.kind === "error" ? "alert" : "status"}>
          <p>{toast.text}</p>
          <button
            type="button"
            class="plain small"
            aria-label="Close message"
            onClick={() => remove(toast.id)}
          >
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
