/** What can be changed in a folder, each after a question; true when it is done. */
import { call } from "../../api/client";
import { sessionPath } from "../../api/sessions";
import type { FileEntry, Session } from "../../api/types";
import { ask, prompt } from "../../components/dialog";
import { printable } from "../../components/printable";
import { attempt, complain } from "../../components/toast";
import { entryQuery, join, nameProblem } from "./paths";

/** Asks for the name of a new folder and makes it. */
export async function makeFolder(session: Session, folder: string): Promise<boolean> {
  const name = await askName({ title: "New folder", label: "Name", action: "Create" });
  if (name === null) return false;
  const path = sessionPath(session, ["files", "directory"], { path: join(folder, name) });
  return attempt(() => call("POST", path));
}

/** Asks for another name and gives it. */
export async function rename(session: Session, folder: string, entry: FileEntry): Promise<boolean> {
  const name = await askName({ title: "Rename", label: "New name", action: "Rename", value: entry.name });
  if (name === null || name === entry.name) return false;
  const query = { ...entryQuery(folder, entry), to: join(folder, name) };
  return attempt(() => call("POST", sessionPath(session, ["files", "move"], query)));
}

/** Deletes what the person means to delete. */
export async function remove(session: Session, folder: string, entry: FileEntry): Promise<boolean> {
  const limits = entry.kind === "directory" ? " Only an empty folder can be deleted." : "";
  const sure = await ask({
    title: "Delete?",
    text: `${printable(entry.name)} is gone for good then.${limits}`,
    action: "Delete",
    danger: true,
  });
  if (!sure) return false;
  return attempt(() => call("DELETE", sessionPath(session, ["files"], entryQuery(folder, entry))));
}

/** A name that can be one; null when the person gives up, or after it was said what is wrong with it. */
async function askName(question: Parameters<typeof prompt>[0]): Promise<string | null> {
  const name = await prompt(question);
  const problem = name === null ? null : nameProblem(name);
  if (problem === null) return name;
  complain(new Error(problem));
  return null;
}
