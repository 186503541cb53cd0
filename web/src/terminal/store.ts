/** The open terminals of whoever is signed in: their layout, kept in localStorage, and the terminals themselves. */
import { effect, signal } from "@preact/signals";
import { keep, recall } from "../components/preferences";
import type { Layout, Pane } from "./layout";
import * as layouts from "./layout";
import { LiveTerminal } from "./live";

/** How the terminals are arranged. */
export const layout = signal<Layout>(layouts.EMPTY);

const lives = new Map<string, LiveTerminal>();
let owner: string | undefined;
let share: string | undefined;
let stopKeeping: (() => void) | undefined;
let onStarted: ((pane: Pane) => void) | undefined;

/** Calls `told` for each shell that is started from here on. */
export function whenStarted(told: (pane: Pane) => void): void {
  onStarted = told;
}

/** Takes the layout of a person from localStorage, unless it is shown already. */
export function useOwner(name: string): void {
  if (owner === name) return;
  leave();
  owner = name;
  const key = `clamshell.terminals.${name}`;
  layout.value = layouts.parse(recall(key));
  stopKeeping = effect(() => keep(key, layouts.serialize(layout.value)));
}

/** Shows the one shell of a share link; nothing of it is kept. */
export function useShare(token: string, pane: Pane): void {
  leave();
  share = token;
  layout.value = layouts.open(layouts.EMPTY, pane, "tab", newId);
}

/** Ends all connections: somebody else is here now. */
function leave(): void {
  stopKeeping?.();
  stopKeeping = undefined;
  owner = undefined;
  share = undefined;
  for (const live of lives.values()) live.dispose();
  lives.clear();
  layout.value = layouts.EMPTY;
}

/** The terminal of a pane, made when it is first asked for. */
export function liveOf(pane: Pane): LiveTerminal {
  let live = lives.get(pane.id);
  if (!live) {
    live = new LiveTerminal(pane, share, () => started(pane.id));
    lives.set(pane.id, live);
  }
  return live;
}

/** Changes the layout; terminals that are in it no longer are left, their shells go on. */
export function arrange(change: (layout: Layout) => Layout): void {
  layout.value = change(layout.value);
  const kept = new Set(layouts.allPanes(layout.value).map((pane) => pane.id));
  for (const [id, live] of lives) {
    if (kept.has(id)) continue;
    live.dispose();
    lives.delete(id);
  }
}

/** Opens a shell, or shows it where it is open already. */
export function openShell(pane: Omit<Pane, "id">, where: "tab" | "cell" = "tab"): void {
  const shown = layouts.findShell(layout.value, pane);
  if (shown) {
    arrange((all) => layouts.focus(all, shown.id));
    return;
  }
  arrange((all) => layouts.open(all, { ...pane, id: newId() }, where, newId));
}

/** A name for something of this page. */
export function newId(): string {
  return crypto.randomUUID();
}

/** A name for a new shell: `web-` and 22 characters. */
export function newShellId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const text = btoa(String.fromCharCode(...bytes));
  return `web-${text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** A name for a new session: at least 33 characters, as the service asks. */
export function newSessionId(): string {
  return `web-${crypto.randomUUID()}`;
}

/** A shell that was there is not started a second time by a reload. */
function started(paneId: string): void {
  const pane = layouts.allPanes(layout.value).find((each) => each.id === paneId);
  if (pane?.create !== true) return;
  const { create: _, ...running } = pane;
  layout.value = layouts.replace(layout.value, paneId, running);
  onStarted?.(running);
}
