/** Files of a session's workspace, also while it is stopped. */
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api/client";
import { useDisk } from "../api/disk";
import { sessions, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { sessionKey } from "../api/reducer";
import { filesHref, findSession, newTerminalHref, sessionHref, sessionPath } from "../api/sessions";
import type { FileEntry, Listing, Session } from "../api/types";
import { ask, prompt } from "../components/dialog";
import { bytes, count, when } from "../components/format";
import { Icon } from "../components/icon";
import { useLoad } from "../components/load";
import { Empty, Failed, Loading, PageHead } from "../components/parts";
import { hides, printable, saveName } from "../components/printable";
import { TableView } from "../components/table";
import { attempt, complain } from "../components/toast";
import { href, route } from "../router";
import { UPLOAD_BYTES_MAX } from "./files/content";
import { contentPath, crumbs, entryQuery, join, nameProblem, parent, sortEntries } from "./files/paths";
import { clearUploads, stopUpload, type Upload, upload, uploads } from "./files/uploads";
import { FileViewer } from "./files/viewer";
import { StateBadge } from "./session_actions";
import { abilities } from "./views";

/** Rows of a folder that are drawn at once; a folder may have ten thousand. */
const ROWS_AT_ONCE = 500;

/** The page. */
export default function Files(props: { readonly me: SignedIn }) {
  useTopics("sessions");
  const { path, query } = route.value;
  if (path.length < 4) return <Choose />;
  const session = findSession(sessions.value, path);
  if (sessions.value === null) return <Loading />;
  if (session === undefined) {
    return (
      <Empty title="This session is not there">
        <p class="muted">It was removed, and its files with it.</p>
        <a class="button" href={href(["files"])}>
          To the sessions with files
        </a>
      </Empty>
    );
  }
  const folder = query.get("path") ?? "/";
  return (
    <Folder
      key={session.sessionId}
      session={session}
      folder={folder}
      write={abilities(props.me.role).operate}
    />
  );
}

function Choose() {
  const all = sessions.value;
  return (
    <>
      <PageHead title="Files" />
      <p class="muted">Each session has a workspace of its own. Whose files?</p>
      <TableView
        of={all && [...all.values()]}
        noun="session"
        keyOf={sessionKey}
        columns={[
          {
            label: "Session",
            head: true,
            cell: (session) => (
              <a class="clip mono" href={filesHref(session)}>
                {session.sessionId}
              </a>
            ),
          },
          { label: "Runtime", cell: (session) => session.runtimeName },
          { label: "State", cell: (session) => <StateBadge session={session} /> },
          { label: "Last activity", look: "nowrap", cell: (session) => when(session.lastActivityAt) },
        ]}
        empty={
          <Empty title="No sessions yet" commands={["clamshell exec --it"]}>
            <p class="muted">
              <a href={newTerminalHref()}>Open a terminal</a> to start one, or use the command line:
            </p>
          </Empty>
        }
      />
    </>
  );
}

function Folder(props: { readonly session: Session; readonly folder: string; readonly write: boolean }) {
  const { session, folder, write } = props;
  const [viewed, setViewed] = useState<FileEntry | null>(null);
  const [over, setOver] = useState(false);
  const [rows, setRows] = useState(ROWS_AT_ONCE);
  const input = useRef<HTMLInputElement>(null);
  const listing = useLoad(
    (signal) => call<Listing>("GET", sessionPath(session, ["files"], { path: folder }), undefined, signal),
    [session.sessionId, folder],
  );
  useEffect(() => setRows(ROWS_AT_ONCE), [folder]);

  const reload = useRef(listing.reload);
  reload.current = listing.reload;
  const take = (files: FileList | null | undefined) => {
    const all = [...(files ?? [])];
    if (all.length > 0) upload(session, folder, all, () => reload.current());
  };
  const named = async (of: Parameters<typeof prompt>[0]): Promise<string | null> => {
    const name = await prompt(of);
    if (name === null) return null;
    const problem = nameProblem(name);
    if (problem === null) return name;
    complain(new Error(problem));
    return null;
  };
  const makeFolder = async () => {
    const name = await named({ title: "New folder", label: "Name", action: "Create" });
    if (name === null) return;
    const path = sessionPath(session, ["files", "directory"], { path: join(folder, name) });
    if (await attempt(() => call("POST", path))) listing.reload();
  };
  const rename = async (entry: FileEntry) => {
    const name = await named({ title: "Rename", label: "New name", action: "Rename", value: entry.name });
    if (name === null || name === entry.name) return;
    const query = { ...entryQuery(folder, entry), to: join(folder, name) };
    if (await attempt(() => call("POST", sessionPath(session, ["files", "move"], query)))) listing.reload();
  };
  const remove = async (entry: FileEntry) => {
    const sure = await ask({
      title: "Delete?",
      text: `${printable(entry.name)} is gone for good then.${entry.kind === "directory" ? " Only an empty folder can be deleted." : ""}`,
      action: "Delete",
      danger: true,
    });
    if (!sure) return;
    const path = sessionPath(session, ["files"], entryQuery(folder, entry));
    if (await attempt(() => call("DELETE", path))) listing.reload();
  };

  const found = listing.value;
  const entries = sortEntries(found?.entries ?? []);
  const limit = useDisk(session)?.limit;
  return (
    <>
      <PageHead title="Files" crumbs={[["Session", sessionHref(session)]]}>
        {write && (
          <>
            <button type="button" onClick={() => void makeFolder()}>
              New folder
            </button>
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
                take(event.currentTarget.files);
                event.currentTarget.value = "";
              }}
            />
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
      <Uploads />
      {listing.failure !== null && <Failed text={listing.failure} onRetry={listing.reload} />}
      {found === undefined && listing.failure === null && <Loading />}
      {found !== undefined && (
        // biome-ignore lint/a11y/noStaticElementInteractions: the button “Upload” does the same for keys.
        <div
          class={over ? "table-wrap drop over" : "table-wrap drop"}
          onDragOver={(event) => {
            if (!write) return;
            event.preventDefault();
            setOver(true);
          }}
          onDragLeave={() => setOver(false)}
          onDrop={(event) => {
            event.preventDefault();
            setOver(false);
            if (write) take(event.dataTransfer?.files);
          }}
        >
          <table class="cards">
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col" class="num">
                  Size
                </th>
                <th scope="col">Changed</th>
                <th scope="col">Mode</th>
                <th scope="col">
                  <span class="visually-hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {folder !== "/" && (
                <tr>
                  <th scope="row" colSpan={5}>
                    <a class="file-name" href={filesHref(session, parent(folder))}>
                      <Icon name="folder" /> ..
                    </a>
                  </th>
                </tr>
              )}
              {entries.slice(0, rows).map((entry) => (
                <Row
                  key={entry.pathBase64 ?? entry.name}
                  session={session}
                  folder={folder}
                  entry={entry}
                  write={write}
                  onView={() => setViewed(entry)}
                  onRename={() => void rename(entry)}
                  onRemove={() => void remove(entry)}
                />
              ))}
            </tbody>
          </table>
          {entries.length === 0 && (
            <p class="loading">
              This folder is empty. {write && "Drop files here, or have a program write to /mnt/workspace."}
            </p>
          )}
        </div>
      )}
      {entries.length > rows && (
        <p class="load-more">
          <button type="button" onClick={() => setRows(rows + ROWS_AT_ONCE)}>
            Show more ({count(entries.length - rows, "entry")} left)
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

function Row(props: {
  readonly session: Session;
  readonly folder: string;
  readonly entry: FileEntry;
  readonly write: boolean;
  readonly onView: () => void;
  readonly onRename: () => void;
  readonly onRemove: () => void;
}) {
  const { session, folder, entry } = props;
  const shown = printable(entry.name);
  const odd = hides(entry.name);
  return (
    <tr>
      <th scope="row" data-label="Name">
        {entry.kind === "directory" ? (
          <a class="file-name" href={filesHref(session, join(folder, entry.name))}>
            <Icon name="folder" /> <bdi>{shown}</bdi>
          </a>
        ) : entry.kind === "file" ? (
          <button type="button" class="plain file-name" onClick={props.onView}>
            <Icon name="file" /> <bdi>{shown}</bdi>
          </button>
        ) : (
          <span class="file-name muted" title={entry.kind}>
            <Icon name={entry.kind === "symlink" ? "link" : "file"} /> <bdi>{shown}</bdi> ({entry.kind})
          </span>
        )}
        {odd && (
          <span
            class="badge warn"
            title="The name has characters that cannot be seen; they are written out here"
          >
            hidden characters
          </span>
        )}
      </th>
      <td class="num" data-label="Size">
        {entry.kind === "file" ? bytes(entry.bytes) : "–"}
      </td>
      <td class="nowrap" data-label="Changed">
        {when(entry.modifiedAt)}
      </td>
      <td class="mono" data-label="Mode">
        {entry.mode ?? ""}
      </td>
      <td class="actions">
        {entry.kind === "file" && (
          <a
            class="button small"
            href={contentPath(session, entryQuery(folder, entry))}
            download={saveName(entry.name)}
          >
            Download
          </a>
        )}
        {props.write && (
          <>
            <button type="button" class="small" onClick={props.onRename}>
              Rename
            </button>
            <button type="button" class="small danger" onClick={props.onRemove}>
              Delete
            </button>
          </>
        )}
      </td>
    </tr>
  );
}

function Uploads() {
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
