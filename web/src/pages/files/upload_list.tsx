/** What is on its way into a workspace, and how far. */
import { bytes } from "../../components/format";
import { printable } from "../../components/printable";
import { clearUploads, stopUpload, type Upload, uploads } from "./uploads";

/** The list; nothing while nothing was uploaded. */
export function UploadList() {
  const all = uploads.value;
  if (all.length === 0) return null;
  return (
    <section class="card" aria-label="Uploads">
      <ul class="plain-list">
        {all.map((one) => (
          <li key={one.id} class="row">
            <span class="grow">{printable(one.name)}</span>
            <progress
              aria-label={`Upload of ${printable(one.name)}`}
              max={Math.max(1, one.total)}
              value={one.sent}
            />
            <span class={one.state === "failed" ? "error-text" : "muted"} role="status">
              {uploadText(one)}
            </span>
            {(one.state === "waiting" || one.state === "sending") && (
              <button type="button" class="small" onClick={() => stopUpload(one.id)}>
                Cancel
              </button>
            )}
          </li>
        ))}
      </ul>
      <button type="button" class="small" onClick={clearUploads}>
        Clear finished
      </button>
    </section>
  );
}

function uploadText(one: Upload): string {
  switch (one.state) {
    case "waiting":
      return "waiting";
    case "sending":
      return `${bytes(one.sent)} of ${bytes(one.total)}`;
    case "done":
      return `${bytes(one.total)}, done`;
    case "stopped":
      return "canceled";
    case "failed":
      return one.failure ?? "failed";
  }
}
