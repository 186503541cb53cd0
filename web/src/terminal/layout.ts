/**
 * Which terminals are open and how they are arranged: tabs, each a grid of one to six. Pure functions over plain
 * data, which is kept in localStorage and read back with suspicion.
 */

/** Cells of a grid. */
export const GRIDS = [1, 2, 4, 6] as const;
export type Grid = (typeof GRIDS)[number];

/** More tabs nobody finds again, and each has a connection. */
export const TABS_MAX = 24;

/** A shell that is shown. */
export interface Pane {
  readonly id: string;
  readonly runtime: string;
  readonly qualifier: string;
  readonly session: string;
  readonly shell: string;
  readonly access: "write" | "watch";
  /** It is to be started; forgotten once it was there. */
  readonly create?: boolean;
}

export interface Tab {
  readonly id: string;
  readonly grid: Grid;
  readonly panes: readonly Pane[];
  /** The pane that has the keyboard. */
  readonly focused: string | undefined;
}

export interface Layout {
  readonly tabs: readonly Tab[];
  /** The tab that is shown. */
  readonly active: string | undefined;
}

export const EMPTY: Layout = { tabs: [], active: undefined };

/** The tab that is shown. */
export function activeTab(layout: Layout): Tab | undefined {
  return layout.tabs.find((tab) => tab.id === layout.active) ?? layout.tabs[0];
}

/** The pane that has the keyboard. */
export function focusedPane(layout: Layout): Pane | undefined {
  const tab = activeTab(layout);
  return tab?.panes.find((pane) => pane.id === tab.focused) ?? tab?.panes[0];
}

/** All panes. */
export function allPanes(layout: Layout): readonly Pane[] {
  return layout.tabs.flatMap((tab) => tab.panes);
}

/** The pane that shows a shell already. */
export function findShell(layout: Layout, at: Pick<Pane, "session" | "shell">): Pane | undefined {
  return allPanes(layout).find((pane) => pane.shell === at.shell && pane.session === at.session);
}

/** Opens a pane: in a free cell of the tab that is shown, or in a tab of its own. */
export function open(layout: Layout, pane: Pane, where: "tab" | "cell", newId: () => string): Layout {
  const tab = activeTab(layout);
  if (where === "cell" && tab && tab.panes.length < tab.grid) {
    return change(layout, tab.id, { panes: [...tab.panes, pane], focused: pane.id });
  }
  if (layout.tabs.length >= TABS_MAX) return layout;
  const added: Tab = { id: newId(), grid: 1, panes: [pane], focused: pane.id };
  const at = tab ? layout.tabs.indexOf(tab) + 1 : 0;
  return { tabs: [...layout.tabs.slice(0, at), added, ...layout.tabs.slice(at)], active: added.id };
}

/** Closes a pane; a tab without any goes as well, and its neighbor is shown. */
export function close(layout: Layout, paneId: string): Layout {
  const tab = tabOf(layout, paneId);
  if (!tab) return layout;
  const at = tab.panes.findIndex((pane) => pane.id === paneId);
  const panes = tab.panes.filter((pane) => pane.id !== paneId);
  if (panes.length > 0) {
    const focused =
      tab.focused === paneId ? (panes[Math.min(at, panes.length - 1)]?.id ?? undefined) : tab.focused;
    return change(layout, tab.id, { panes, focused });
  }
  const index = layout.tabs.indexOf(tab);
  const tabs = layout.tabs.filter((each) => each.id !== tab.id);
  const active = layout.active === tab.id ? tabs[Math.min(index, tabs.length - 1)]?.id : layout.active;
  return { tabs, active };
}

/** Puts another shell into a pane's place. */
export function replace(layout: Layout, paneId: string, pane: Pane): Layout {
  const tab = tabOf(layout, paneId);
  if (!tab) return layout;
  const panes = tab.panes.map((each) => (each.id === paneId ? pane : each));
  return change(layout, tab.id, { panes, focused: tab.focused === paneId ? pane.id : tab.focused });
}

/** Shows a tab. */
export function show(layout: Layout, tabId: string): Layout {
  return layout.tabs.some((tab) => tab.id === tabId) ? { ...layout, active: tabId } : layout;
}

/** Shows the tab some places further, around the end. */
export function step(layout: Layout, by: number): Layout {
  const tab = activeTab(layout);
  if (!tab) return layout;
  const count = layout.tabs.length;
  const at = (layout.tabs.indexOf(tab) + by + count * Math.abs(by)) % count;
  return { ...layout, active: layout.tabs[at]?.id };
}

/** Gives the keyboard to a pane, and shows its tab. */
export function focus(layout: Layout, paneId: string): Layout {
  const tab = tabOf(layout, paneId);
  if (!tab) return layout;
  if (tab.focused === paneId && layout.active === tab.id) return layout;
  return { ...change(layout, tab.id, { focused: paneId }), active: tab.id };
}

/** Gives the keyboard to the pane some places further in the same tab. */
export function stepPane(layout: Layout, by: number): Layout {
  const tab = activeTab(layout);
  const pane = focusedPane(layout);
  if (!tab || !pane) return layout;
  const count = tab.panes.length;
  const next = tab.panes[(tab.panes.indexOf(pane) + by + count * Math.abs(by)) % count];
  return next ? focus(layout, next.id) : layout;
}

/** Changes the grid of a tab; panes without a cell get tabs of their own behind it. */
export function setGrid(layout: Layout, tabId: string, grid: Grid, newId: () => string): Layout {
  const tab = layout.tabs.find((each) => each.id === tabId);
  if (!tab) return layout;
  const panes = tab.panes.slice(0, grid);
  const added = tab.panes.slice(grid).map((pane) => ownTab(pane, newId));
  const isKept = panes.some((pane) => pane.id === tab.focused);
  const smaller: Tab = { ...tab, grid, panes, focused: isKept ? tab.focused : panes[0]?.id };
  const at = layout.tabs.indexOf(tab);
  const tabs = [...layout.tabs.slice(0, at), smaller, ...added, ...layout.tabs.slice(at + 1)];
  return { ...layout, tabs };
}

/** Moves a tab before or behind the place of another one. */
export function moveTab(layout: Layout, tabId: string, to: number): Layout {
  const tab = layout.tabs.find((each) => each.id === tabId);
  if (!tab) return layout;
  const rest = layout.tabs.filter((each) => each.id !== tabId);
  const at = Math.max(0, Math.min(rest.length, to));
  return { ...layout, tabs: [...rest.slice(0, at), tab, ...rest.slice(at)] };
}

/** Exchanges two panes, of the same tab or of two. */
export function swap(layout: Layout, a: string, b: string): Layout {
  const [first, second] = [a, b].map((id) => allPanes(layout).find((pane) => pane.id === id));
  if (!first || !second || a === b) return layout;
  const exchange = (pane: Pane) => (pane.id === a ? second : pane.id === b ? first : pane);
  const refocus = (tab: Tab, panes: readonly Pane[]) =>
    panes.some((pane) => pane.id === tab.focused) ? tab.focused : panes[0]?.id;
  const tabs = layout.tabs.map((tab) => {
    const panes = tab.panes.map(exchange);
    return { ...tab, panes, focused: refocus(tab, panes) };
  });
  return { ...layout, tabs };
}

/** Moves a pane into a free cell of a tab; without one nothing happens. */
export function movePane(layout: Layout, paneId: string, tabId: string): Layout {
  const pane = allPanes(layout).find((each) => each.id === paneId);
  const target = layout.tabs.find((tab) => tab.id === tabId);
  if (!pane || !target || target.panes.includes(pane) || target.panes.length >= target.grid) return layout;
  const without = close(layout, paneId);
  const tab = without.tabs.find((each) => each.id === tabId);
  if (!tab) return layout;
  const moved = change(without, tabId, { panes: [...tab.panes, pane], focused: paneId });
  return { ...moved, active: tabId };
}

/** Text to keep. */
export function serialize(layout: Layout): string {
  return JSON.stringify({ version: 1, ...layout });
}

/** Reads what was kept; what cannot be a layout is left out. */
export function parse(text: string | null): Layout {
  if (text === null || text.length > 200_000) return EMPTY;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return EMPTY;
  }
  const whole = record(json);
  if (whole?.["version"] !== 1 || !Array.isArray(whole["tabs"])) return EMPTY;
  const seen = new Set<string>();
  const fresh = (id: string) => !seen.has(id) && seen.add(id).size > 0;
  const tabs: Tab[] = [];
  for (const each of whole["tabs"].slice(0, TABS_MAX)) {
    const tab = record(each);
    const id = name(tab?.["id"]);
    const grid = GRIDS.find((cells) => cells === tab?.["grid"]) ?? 1;
    const panes = (Array.isArray(tab?.["panes"]) ? tab["panes"] : [])
      .map(parsePane)
      .filter((pane): pane is Pane => pane !== undefined && fresh(pane.id))
      .slice(0, grid);
    if (!id || !fresh(id) || panes.length === 0) continue;
    const focused = panes.find((pane) => pane.id === tab?.["focused"])?.id ?? panes[0]?.id;
    tabs.push({ id, grid, panes, focused });
  }
  const active = tabs.find((tab) => tab.id === whole["active"])?.id ?? tabs[0]?.id;
  return { tabs, active };
}

function parsePane(value: unknown): Pane | undefined {
  const pane = record(value);
  const [id, runtime, qualifier] = [name(pane?.["id"]), name(pane?.["runtime"]), name(pane?.["qualifier"])];
  const [session, shell] = [name(pane?.["session"]), name(pane?.["shell"])];
  if (!id || !runtime || !qualifier || !session || !shell) return undefined;
  const access = pane?.["access"] === "watch" ? "watch" : "write";
  const create = pane?.["create"] === true ? { create: true } : {};
  return { id, runtime, qualifier, session, shell, access, ...create };
}

function ownTab(pane: Pane, newId: () => string): Tab {
  return { id: newId(), grid: 1, panes: [pane], focused: pane.id };
}

function tabOf(layout: Layout, paneId: string): Tab | undefined {
  return layout.tabs.find((tab) => tab.panes.some((pane) => pane.id === paneId));
}

function change(layout: Layout, tabId: string, to: Partial<Tab>): Layout {
  return { ...layout, tabs: layout.tabs.map((tab) => (tab.id === tabId ? { ...tab, ...to } : tab)) };
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}

function name(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" && value.length <= 2048 ? value : undefined;
}
