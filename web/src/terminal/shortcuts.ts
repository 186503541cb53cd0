/**
 * Keys of the page itself. All but the search begin with Alt+Shift, which browsers leave to the page and
 * programs in terminals hardly use; letters are told by their place on the keyboard.
 */

export type Action =
  | {
      readonly do:
        | "new"
        | "list"
        | "rename"
        | "detach"
        | "close"
        | "takeOver"
        | "share"
        | "find"
        | "download";
    }
  | { readonly do: "grid" | "help" | "reader" | "swap" }
  | { readonly do: "tab"; readonly by: number }
  | { readonly do: "tabAt"; readonly index: number }
  | { readonly do: "pane"; readonly by: number }
  | { readonly do: "moveTab"; readonly by: number }
  | { readonly do: "font"; readonly by: number };

/** A key and what it does, as the help shows it. */
export interface Shortcut {
  readonly keys: string;
  readonly says: string;
}

const ALT_SHIFT: Readonly<Record<string, Action>> = {
  KeyN: { do: "new" },
  KeyP: { do: "list" },
  KeyR: { do: "rename" },
  KeyD: { do: "detach" },
  KeyX: { do: "close" },
  KeyO: { do: "takeOver" },
  KeyS: { do: "share" },
  KeyF: { do: "find" },
  KeyE: { do: "download" },
  KeyG: { do: "grid" },
  KeyM: { do: "swap" },
  KeyA: { do: "reader" },
  KeyH: { do: "help" },
  Slash: { do: "help" },
  ArrowRight: { do: "tab", by: 1 },
  ArrowLeft: { do: "tab", by: -1 },
  ArrowDown: { do: "pane", by: 1 },
  ArrowUp: { do: "pane", by: -1 },
  Period: { do: "moveTab", by: 1 },
  Comma: { do: "moveTab", by: -1 },
  Equal: { do: "font", by: 1 },
  Minus: { do: "font", by: -1 },
};

export const SHORTCUTS: readonly Shortcut[] = [
  { keys: "Alt+Shift+N", says: "New shell" },
  { keys: "Alt+Shift+P", says: "Menu of sessions and running shells" },
  { keys: "Alt+Shift+← →", says: "Tab to the left, to the right" },
  { keys: "Alt+Shift+1 … 9", says: "Tab by its number" },
  { keys: "Alt+Shift+↑ ↓", says: "Pane before, pane after" },
  { keys: "Alt+Shift+G", says: "Grid of 1, 2, 4 or 6 panes" },
  { keys: "Alt+Shift+M", says: "Exchange this pane with the next one" },
  { keys: "Alt+Shift+, .", says: "Move the tab to the left, to the right" },
  { keys: "Alt+Shift+R", says: "Rename the shell" },
  { keys: "Alt+Shift+D", says: "Detach: close the tab, the shell goes on" },
  { keys: "Alt+Shift+X", says: "Close: end the shell" },
  { keys: "Alt+Shift+O", says: "Take over: send other writers away" },
  { keys: "Alt+Shift+S", says: "Share by a link" },
  { keys: "Alt+Shift+E", says: "Download the recording" },
  { keys: "Ctrl+Shift+F", says: "Search in the output" },
  { keys: "Ctrl+Shift+C, V", says: "Copy, paste" },
  { keys: "Alt+Shift+= −", says: "Larger, smaller font" },
  { keys: "Alt+Shift+A", says: "Text for screen readers on, off" },
  { keys: "Alt+Shift+H", says: "This help" },
];

/** What of a key event matters here. */
export type Key = Pick<KeyboardEvent, "code" | "altKey" | "shiftKey" | "ctrlKey" | "metaKey">;

/** The action of a key; `undefined` when it is the program's. */
export function actionOf(key: Key): Action | undefined {
  if (!key.shiftKey || key.metaKey) return undefined;
  if (key.ctrlKey && !key.altKey) return key.code === "KeyF" ? { do: "find" } : undefined;
  if (!key.altKey || key.ctrlKey) return undefined;
  const digit = /^Digit([1-9])$/.exec(key.code)?.[1];
  return digit ? { do: "tabAt", index: Number(digit) - 1 } : ALT_SHIFT[key.code];
}
