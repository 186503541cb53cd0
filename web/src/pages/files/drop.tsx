/** The two ways to give the page files: a button, and dropping them. */
import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";

/** Opens the browser's own choice of files. */
export function UploadButton(props: { readonly onFiles: (files: readonly File[]) => void }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button type="button" class="primary" onClick={() => input.current?.click()}>
        Upload
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        aria-label="Files to upload"
        onChange={(event) => {
          give(event.currentTarget.files, props.onFiles);
          event.currentTarget.value = "";
        }}
      />
    </>
  );
}

/** A table that takes what is dropped on it, if somebody wants it. */
export function DropArea(props: {
  readonly onFiles?: (files: readonly File[]) => void;
  readonly children: ComponentChildren;
}) {
  const { onFiles } = props;
  const [over, setOver] = useState(false);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the button “Upload” does the same for keys.
    <div
      class={over ? "table-wrap drop over" : "table-wrap drop"}
      onDragOver={(event) => {
        if (onFiles === undefined) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (onFiles !== undefined) give(event.dataTransfer?.files, onFiles);
      }}
    >
      {props.children}
    </div>
  );
}

function give(files: FileList | null | undefined, to: (files: readonly File[]) => void): void {
  const all = [...(files ?? [])];
  if (all.length > 0) to(all);
}
