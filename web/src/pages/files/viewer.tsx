/** Shows a file: text as text, pictures as pictures, anything else as numbers. */
import { useEffect, useState } from "preact/hooks";
import { send } from "../../api/client";
import type { SessionName } from "../../api/sessions";
import type { FileEntry } from "../../api/types";
import { Dialog } from "../../components/dialog";
import { bytes } from "../../components/format";
import { CopyButton, Failed, Loading } from "../../components/parts";
import { printable, saveName } from "../../components/printable";
import { explain } from "../../components/toast";
import { type Content, classify, IMAGE_BYTES_MAX, TEXT_BYTES_MAX } from "./content";
import { contentPath, entryQuery } from "./paths";

interface Shown {
  readonly content: Content;
  readonly url: string | null;
  readonly whole: boolean;
}

/** A file in a dialog. */
export function FileViewer(props: {
  readonly session: SessionName;
  readonly folder: string;
  readonly entry: FileEntry;
  readonly onClose: () => void;
}) {
  const { entry } = props;
  const [shown, setShown] = useState<Shown | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const path = contentPath(props.session, entryQuery(props.folder, entry));

  useEffect(() => {
    const stop = new AbortController();
    let url: string | null = null;
    load(path, entry.bytes, stop.signal).then(
      (found) => {
        url = found.url;
        if (stop.signal.aborted) revoke(url);
        else setShown(found);
      },
      (cause: unknown) => setFailure(explain(cause)),
    );
    return () => {
      stop.abort();
      revoke(url);
    };
  }, [path]);

  return (
    <Dialog title={printable(entry.name)} wide onClose={props.onClose}>
      {failure !== null ? (
        <Failed text={failure} />
      ) : shown === null ? (
        <Loading />
      ) : (
        <Body of={shown} name={entry.name} />
      )}
      <div class="row end viewer-foot">
        <span class="muted small grow">
          {bytes(entry.bytes)}
          {shown !== null && !shown.whole && `, the first ${bytes(TEXT_BYTES_MAX)} are shown`}
        </span>
        {shown?.content.kind === "text" && <CopyButton text={shown.content.text} />}
        <a class="button" href={path} download={saveName(entry.name)}>
          Download
        </a>
      </div>
    </Dialog>
  );
}

function Body(props: { readonly of: Shown; readonly name: string }) {
  const { content, url } = props.of;
  if (content.kind === "image") {
    return url === null ? (
      <p>This picture is larger than {bytes(IMAGE_BYTES_MAX)}. Download it to see it.</p>
    ) : (
      <img class="picture" src={url} alt={printable(props.name)} />
    );
  }
  if (content.kind === "binary") return <pre class="viewer hex">{content.hex}</pre>;
  return <pre class="viewer">{content.text === "" ? "(empty)" : content.text}</pre>;
}

async function load(path: string, size: number, signal: AbortSignal): Promise<Shown> {
  const whole = size <= TEXT_BYTES_MAX;
  const init: RequestInit = whole
    ? { signal }
    : { signal, headers: { Range: `bytes=0-${TEXT_BYTES_MAX - 1}` } };
  const head = new Uint8Array(await (await send("GET", path, init)).arrayBuffer());
  const content = classify(head, whole);
  if (content.kind !== "image") return { content, url: null, whole };
  if (size > IMAGE_BYTES_MAX) return { content, url: null, whole: true };
  const all = whole ? head : await (await send("GET", path, { signal })).arrayBuffer();
  // The type is the one that the first bytes say, never the server's or the name's: a picture, whatever else is in it.
  const url = URL.createObjectURL(new Blob([all], { type: content.type }));
  return { content, url, whole: true };
}

function revoke(url: string | null): void {
  if (url !== null) URL.revokeObjectURL(url);
}
