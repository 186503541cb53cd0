/** Paths of a workspace. They begin with a slash; names that are no UTF-8 are named by the server's base64. */
import { type SessionName, sessionPath } from "../../api/sessions";
import type { FileEntry } from "../../api/types";

/** Puts a name behind a folder's path. */
export function join(folder: string, name: string): string {
  return folder === "/" || folder === "" ? `/${name}` : `${folder}/${name}`;
}

/** The folder that a path lies in; the root lies in itself. */
export function parent(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

/** The folders on the way to a path, the root first. */
export function crumbs(path: string): readonly { readonly name: string; readonly path: string }[] {
  const found = [{ name: "workspace", path: "/" }];
  for (const name of path.split("/")) {
    if (name !== "") found.push({ name, path: join(found.at(-1)?.path ?? "/", name) });
  }
  return found;
}

/** Why a name cannot be one of a new file or folder; null when it can. */
export function nameProblem(name: string): string | null {
  if (name === "" || name === "." || name === "..") return "This is no name";
  if (name.includes("/")) return "A name has no slash in it";
  if (name.includes("\u0000")) return "A name has no zero byte in it";
  return new TextEncoder().encode(name).length > 255 ? "A name has at most 255 bytes" : null;
}

/** The query that names an entry of a folder. */
export function entryQuery(folder: string, entry: FileEntry): Record<string, string> {
  return entry.pathBase64 === undefined
    ? { path: join(folder, entry.name) }
    : { pathBase64: entry.pathBase64 };
}

/** The address of an entry's bytes. */
export function contentPath(session: SessionName, query: Record<string, string>): string {
  return sessionPath(session, ["files", "content"], query);
}

/** Folders first, then by name, numbers by their value. */
export function sortEntries(entries: readonly FileEntry[]): readonly FileEntry[] {
  const rank = (entry: FileEntry) => (entry.kind === "directory" ? 0 : 1);
  return [...entries].sort(
    (a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name, "en", { numeric: true }),
  );
}
