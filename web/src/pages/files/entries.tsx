/** The entries of a folder as a table. */
import { filesHref } from "../../api/sessions";
import type { FileEntry, Session } from "../../api/types";
import { bytes, NOTHING, when } from "../../components/format";
import { Icon } from "../../components/icon";
import { hides, printable, saveName } from "../../components/printable";
import { type Column, Table } from "../../components/table";
import { contentPath, entryQuery, join, parent } from "./paths";

/** The table, with the way up before the entries; without ways to change them it has none. */
export function EntryTable(props: {
  readonly session: Session;
  readonly folder: string;
  readonly entries: readonly FileEntry[];
  readonly onView: (entry: FileEntry) => void;
  readonly onRename?: (entry: FileEntry) => void;
  readonly onRemove?: (entry: FileEntry) => void;
}) {
  const { session, folder, onRename, onRemove } = props;
  const columns: readonly Column<FileEntry>[] = [
    {
      label: "Name",
      head: true,
      cell: (entry) => (
        <Name entry={entry} href={filesHref(session, join(folder, entry.name))} onView={props.onView} />
      ),
    },
    {
      label: "Size",
      look: "num",
      cell: (entry) => (entry.kind === "file" ? bytes(entry.bytes) : NOTHING),
    },
    { label: "Changed", look: "nowrap", cell: (entry) => when(entry.modifiedAt) },
    { label: "Mode", look: "mono", cell: (entry) => entry.mode ?? "" },
  ];
  return (
    <Table
      of={props.entries}
      keyOf={(entry) => entry.pathBase64 ?? entry.name}
      columns={columns}
      before={
        folder !== "/" && (
          <tr>
            <th scope="row" colSpan={columns.length + 1}>
              <a class="file-name" href={filesHref(session, parent(folder))}>
                <Icon name="folder" /> ..
              </a>
            </th>
          </tr>
        )
      }
      actions={(entry) => (
        <>
          {entry.kind === "file" && (
            <a
              class="button small"
              href={contentPath(session, entryQuery(folder, entry))}
              download={saveName(entry.name)}
            >
              Download
            </a>
          )}
          {onRename !== undefined && (
            <button type="button" class="small" onClick={() => onRename(entry)}>
              Rename
            </button>
          )}
          {onRemove !== undefined && (
            <button type="button" class="small danger" onClick={() => onRemove(entry)}>
              Delete
            </button>
          )}
        </>
      )}
    />
  );
}

/** A name that leads into a folder or shows a file, and says when something in it cannot be seen. */
function Name(props: {
  readonly entry: FileEntry;
  readonly href: string;
  readonly onView: (entry: FileEntry) => void;
}) {
  const { entry } = props;
  const shown = <bdi>{printable(entry.name)}</bdi>;
  return (
    <>
      {entry.kind === "directory" ? (
        <a class="file-name" href={props.href}>
          <Icon name="folder" /> {shown}
        </a>
      ) : entry.kind === "file" ? (
        <button type="button" class="plain file-name" onClick={() => props.onView(entry)}>
          <Icon name="file" /> {shown}
        </button>
      ) : (
        <span class="file-name muted" title={entry.kind}>
          <Icon name={entry.kind === "symlink" ? "link" : "file"} /> {shown} ({entry.kind})
        </span>
      )}
      {hides(entry.name) && (
        <span
          class="badge warn"
          title="The name has characters that cannot be seen; they are written out here"
        >
          hidden characters
        </span>
      )}
    </>
  );
}
