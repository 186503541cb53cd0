/** Uploads: one after the other, each with its progress and a way to stop it. */
import { signal } from "@preact/signals";
import { randomId } from "../../api/ids";
import type { SessionName } from "../../api/sessions";
import { bytes } from "../../components/format";
import { UPLOAD_BYTES_MAX } from "./content";
import { contentPath, join } from "./paths";

/** An upload. */
export interface Upload {
  readonly id: string;
  readonly name: string;
  readonly sent: number;
  readonly total: number;
  readonly state: "waiting" | "sending" | "done" | "failed" | "stopped";
  readonly failure?: string;
}

/** All uploads of this page that were not put away. */
export const uploads = signal<readonly Upload[]>([]);

const stoppers = new Map<string, () => void>();
let last: Promise<void> = Promise.resolve();

/** Sends files to a folder; `done` is called after each that arrived. */
export function upload(session: SessionName, folder: string, files: readonly File[], done: () => void): void {
  for (const file of files) {
    const one: Upload = { id: randomId(), name: file.name, sent: 0, total: file.size, state: "waiting" };
    uploads.value = [...uploads.value, one];
    if (file.size > UPLOAD_BYTES_MAX) {
      change(one.id, { state: "failed", failure: `Larger than ${bytes(UPLOAD_BYTES_MAX)}` });
      continue;
    }
    let stopped = false;
    stoppers.set(one.id, () => {
      stopped = true;
      change(one.id, { state: "stopped" });
    });
    last = last.then(async () => {
      if (stopped) return;
      await transmit(one.id, contentPath(session, { path: join(folder, file.name) }), file);
      if (uploads.value.some((each) => each.id === one.id && each.state === "done")) done();
    });
  }
}

/** Stops an upload; nothing of it stays on the server. */
export function stopUpload(id: string): void {
  stoppers.get(id)?.();
}

/** Puts away what is finished. */
export function clearUploads(): void {
  uploads.value = uploads.value.filter((one) => one.state === "waiting" || one.state === "sending");
}

/** `fetch` tells nothing of how much was sent; the older interface does. */
function transmit(id: string, path: string, file: File): Promise<void> {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const end = (state: Upload["state"], failure?: string) => {
      stoppers.delete(id);
      change(id, failure === undefined ? { state } : { state, failure });
      resolve();
    };
    stoppers.set(id, () => request.abort());
    request.upload.onprogress = (event) => change(id, { sent: event.loaded });
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) {
        change(id, { sent: file.size });
        end("done");
      } else {
        end("failed", said(request.responseText) ?? `Status ${request.status}`);
      }
    };
    request.onerror = () => end("failed", "The connection was lost");
    request.onabort = () => end("stopped");
    request.open("PUT", path);
    request.setRequestHeader("X-Clamshell-Console", "1");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    change(id, { state: "sending" });
    request.send(file);
  });
}

function change(id: string, to: Partial<Upload>): void {
  uploads.value = uploads.value.map((one) => (one.id === id ? { ...one, ...to } : one));
}

function said(body: string): string | null {
  try {
    const value = JSON.parse(body) as { message?: unknown };
    return typeof value.message === "string" ? value.message : null;
  } catch {
    return null;
  }
}
