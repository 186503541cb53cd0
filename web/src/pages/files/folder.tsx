/** One folder of a workspace: what is in it, and what can be done with it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../../api/client";
import { useDisk } from "../../api/disk";
import { filesHref, sessionHref, sessionPath } from "../../api/sessions";
import type { FileEntry, Listing, Session } from "../../api/types";
import { bytes } from "../../components/format";
import { useLoad } from "../../components/load";
import { Failed, Loading, PageHead } from "../../components/parts";
import { printable } from "../../components/printable";
import { makeFolder, remove, rename } from "./changes";
import { UPLOAD_BYTES_MAX } from "./content";
import { DropArea, UploadButton } from "./drop";
import { EntryTable } from "./entries";
import { crumbs, sortEntries } from "./paths";
import { UploadList } from "./upload_list";
import { upload } from "./uploads";
import { FileViewer } from "./viewer";

/** Rows that are drawn at once; a folder may have ten thousand. */
const ROWS_AT_ONCE = 500;

/** The view of a folder; who may not `write` looks and downloads. */
export function Folder(props: {
  readonly session: Session;
  readonly folder: string;
  readonly write: boolean;
}) {
  const { session, folder, write } = props;
  const [viewed, setViewed] = useState<FileEntry | null>(null);
  const [rows, setRows] = useState(ROWS_AT_ONCE);
  const listing = useLoad(
    (signal) => call<Listing>("GET", sessionPath(session, ["files"], { path: folder }), undefined, signal),
    [session.sessionId, folder],
  );
  useEffect(() => setRows(ROWS_AT_ONCE), [folder]);

  const reload = useRef(listing.reload);
  reload.current = listing.reload;
  const take = (files: readonly File[]) => upload(session, folder, files, () => reload.current());
  const change = async (changed: Promise<boolean>) => {
    if (await changed) reload.current();
  };

  const found = listing.value;
  const entries = sortEntries(found?.entries ?? []);
  const limit = useDisk(session)?.limit;
  return (
    <>
      <PageHead title="Files" crumbs={[["Session", sessionHref(session)]]}>
        {write && (
          <>
            <button type="button" onClick={() => void change(makeFolder(session, folder))}>
              New folder
            </button>
            <UploadButton onFiles={take} />
          </>
        )}
        <button type="button" onClick={listing.reload}>
          Reload
        </button>
      </PageHead>
      <nav class="crumbs path" aria-label="Path">
        {crumbs(folder).map((crumb) => (
          <span key={crumb.path}>
            <a href={filesHref(session, crumb.path)}>{printable(crumb.name)}</a> /
          </span>
        ))}
      </nav>
      {write && (
        <p class="muted small">
          Drop files here or press Upload: at most {bytes(UPLOAD_BYTES_MAX)} each
          {limit ? `, and ${bytes(limit)} in this workspace` : ""}.
        </p>
      )}
      <UploadList />
      {listing.failure !== null && <Failed text={listing.failure} onRetry={listing.reload} />}
      {found === undefined && listing.failure === null && <Loading />}
      {found !== undefined && (
        <DropArea {...(write && { onFiles: take })}>
          <EntryTable
            session={session}
            folder={folder}
            entries={entries.slice(0, rows)}
            onView={setViewed}
            {...(write && {
              onRename: (entry) => void change(rename(session, folder, entry)),
              onRemove: (entry) => void change(remove(session, folder, entry)),
            })}
          />
          {entries.length === 0 && (
            <p class="loading">
              This folder is empty. {write && "Drop files here, or have a program write to /mnt/workspace."}
            </p>
          )}
        </DropArea>
      )}
      {entries.length > rows && (
        <p class="load-more">
          <button type="button" onClick={() => setRows(rows + ROWS_AT_ONCE)}>
            Show more ({(entries.length - rows).toLocaleString("en-US")} left)
          </button>
        </p>
      )}
      {found?.truncated === true && (
        <p class="notice warn">This folder has more entries than the server lists. The first are shown.</p>
      )}
      {viewed !== null && (
        <FileViewer session={session} folder={folder} entry={viewed} onClose={() => setViewed(null)} />
      )}
    </>
  );
}
