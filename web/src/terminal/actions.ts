/** What a person can do with the terminals, by key, button or menu. */

import { signal } from "@preact/signals";
import { learn } from "../api/events";
import type { Shell } from "../api/types";
import { ask, prompt } from "../components/dialog";
import { FONT_SIZE, terminalFontSize } from "../components/preferences";
import { attempt, note } from "../components/toast";
import { closeShell, listShells, recordingUrl, renameShell } from "./api";
import * as layouts from "./layout";
import { GRIDS, type Grid, type Pane } from "./layout";
import { screenReader } from "./live";
import { cleanTitle } from "./sanitize";
import type { Action } from "./shortcuts";
import { arrange, layout, liveOf, newId, newSessionId, newShellId, openShell } from "./store";

/** Which of the page's own panels is open. */
export const panel = signal<"none" | "help" | "menu" | "share" | "find">("none");

/** Names that people gave to shells since the page was loaded; events bring those of others. */
export const givenNames = signal<ReadonlyMap<string, string>>(new Map());

/** Names that the server gave to shells that nobody has named. */
const defaultNames = signal<ReadonlyMap<string, string>>(new Map());

/** Does what a key or a button says. */
export function perform(action: Action): void {
  const pane = layouts.focusedPane(layout.value);
  switch (action.do) {
    case "new":
      newShell();
      return;
    case "list":
      toggle("menu");
      return;
    case "help":
      toggle("help");
      return;
    case "find":
      if (pane) toggle("find");
      return;
    case "share":
      if (pane) toggle("share");
      return;
    case "rename":
      if (pane) void rename(pane);
      return;
    case "detach":
      if (pane) detach(pane);
      return;
    case "close":
      if (pane) void closeForGood(pane);
      return;
    case "takeOver":
      if (pane) liveOf(pane).socket.takeOver();
      return;
    case "download":
      if (pane) download(pane);
      return;
    case "grid":
      nextGrid();
      return;
    case "swap":
      swapWithNext();
      return;
    case "reader":
      screenReader.value = !screenReader.value;
      note(screenReader.value ? "Text for screen readers is on" : "Text for screen readers is off");
      return;
    case "tab":
      arrange((all) => layouts.step(all, action.by));
      focusSoon();
      return;
    case "tabAt": {
      const tab = layout.value.tabs[action.index];
      if (tab) arrange((all) => layouts.show(all, tab.id));
      focusSoon();
      return;
    }
    case "pane":
      arrange((all) => layouts.stepPane(all, action.by));
      focusSoon();
      return;
    case "moveTab": {
      const tab = layouts.activeTab(layout.value);
      if (tab) arrange((all) => layouts.moveTab(all, tab.id, all.tabs.indexOf(tab) + action.by));
      return;
    }
    case "font":
      setFontSize(terminalFontSize.value + action.by);
      return;
  }
}

/** Opens or closes a panel. */
export function toggle(which: typeof panel.value): void {
  panel.value = panel.value === which ? "none" : which;
  if (panel.value === "none") focusSoon();
}

/** Gives the keyboard back to the terminal once the page has followed. */
export function focusSoon(): void {
  requestAnimationFrame(() => {
    const pane = layouts.focusedPane(layout.value);
    if (pane && panel.value === "none") liveOf(pane).focus();
  });
}

/** Starts a shell in the session of the pane that has the keyboard, or in a new session. */
export function newShell(
  at?: Pick<Pane, "runtime" | "qualifier"> & { readonly session?: string },
  where: "tab" | "cell" = "tab",
): void {
  const like = at ?? layouts.focusedPane(layout.value);
  openShell(
    {
      runtime: like?.runtime ?? "default",
      qualifier: like?.qualifier ?? "DEFAULT",
      session: like?.session ?? newSessionId(),
      shell: newShellId(),
      access: "write",
      create: true,
    },
    where,
  );
  panel.value = "none";
  focusSoon();
}

/** Starts a new shell where one has ended. */
export function startAnew(pane: Pane): void {
  const next: Pane = { ...pane, id: newId(), shell: newShellId(), access: "write", create: true };
  arrange((all) => layouts.replace(all, pane.id, next));
  focusSoon();
}

/** Leaves a shell, which goes on. */
export function detach(pane: Pane): void {
  const isRunning = liveOf(pane).state.value.name !== "ended";
  arrange((all) => layouts.close(all, pane.id));
  if (isRunning && pane.access === "write") note("The shell goes on; ▾ has it in its list");
  focusSoon();
}

/** Ends a shell, after a question. */
export async function closeForGood(pane: Pane): Promise<void> {
  if (pane.access === "watch" || liveOf(pane).state.value.name === "ended") {
    detach(pane);
    return;
  }
  const isSure = await ask({
    title: "End this shell?",
    text: `The programs in ${nameOf(pane)} are ended. Its recording stays. To leave it running, detach instead.`,
    action: "End the shell",
    danger: true,
  });
  if (isSure && (await attempt(() => closeShell(pane), "The shell was ended"))) {
    arrange((all) => layouts.close(all, pane.id));
  }
  focusSoon();
}

/** Asks for the shells that there are, for pages that are not told by events. */
export async function refreshShells(): Promise<readonly Shell[]> {
  const shells = await listShells();
  learn("shells", { shells });
  return shells;
}

/** Gives a shell a name. */
export async function rename(pane: Pane): Promise<void> {
  const text = await prompt({
    title: "Rename the shell",
    label: "Name, at most 100 characters",
    action: "Rename",
    value: givenNames.value.get(pane.shell) ?? defaultNames.value.get(pane.shell) ?? "",
  });
  const title = text === null ? "" : [...cleanTitle(text)].slice(0, 100).join("");
  if (title !== "" && (await attempt(() => renameShell(pane, title)))) learnName(pane.shell, title);
  focusSoon();
}

/** Remembers the name that a shell has. */
export function learnName(shell: string, title: string, isDefault = false): void {
  const names = isDefault ? defaultNames : givenNames;
  if (names.value.get(shell) === title) return;
  names.value = new Map(names.value).set(shell, title);
}

/** What a pane is called: by a person, by its program, by the server, or by its id. */
export function nameOf(pane: Pane): string {
  const given = givenNames.value.get(pane.shell) || liveOf(pane).title.value;
  return given || defaultNames.value.get(pane.shell) || shortId(pane.shell);
}

/** The beginning of an id, enough to tell a few apart. */
export function shortId(id: string): string {
  return id.length > 14 ? `${id.slice(0, 12)}…` : id;
}

/** Saves the recording of a shell. */
export function download(pane: Pane): void {
  const link = document.createElement("a");
  link.href = recordingUrl(pane);
  link.download = `${pane.shell}.cast`;
  link.click();
}

/** Changes the font of all terminals. */
export function setFontSize(size: number): void {
  terminalFontSize.value = Math.max(FONT_SIZE.min, Math.min(FONT_SIZE.max, size));
}

/** Changes the grid of the tab that is shown. */
export function setGrid(grid: Grid): void {
  const tab = layouts.activeTab(layout.value);
  if (tab) arrange((all) => layouts.setGrid(all, tab.id, grid, newId));
  focusSoon();
}

function nextGrid(): void {
  const tab = layouts.activeTab(layout.value);
  if (tab) setGrid(GRIDS[(GRIDS.indexOf(tab.grid) + 1) % GRIDS.length] ?? 1);
}

function swapWithNext(): void {
  const tab = layouts.activeTab(layout.value);
  const pane = layouts.focusedPane(layout.value);
  if (!tab || !pane || tab.panes.length < 2) return;
  const next = tab.panes[(tab.panes.indexOf(pane) + 1) % tab.panes.length];
  if (next) arrange((all) => layouts.focus(layouts.swap(all, pane.id, next.id), pane.id));
  focusSoon();
}
