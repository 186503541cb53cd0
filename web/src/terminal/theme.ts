/** Colors and font of the terminals. */
import type { ITheme } from "@xterm/xterm";

/** A font that every system has something for. */
export const FONT_FAMILY =
  'ui-monospace, "SF Mono", "Cascadia Mono", "JetBrains Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace';

const DARK: ITheme = {
  background: "#0e1116",
  foreground: "#e6e9ee",
  cursor: "#5ccdb4",
  cursorAccent: "#0e1116",
  selectionBackground: "#33507a",
  black: "#1d222b",
  red: "#ff8078",
  green: "#5fd07a",
  yellow: "#e5b454",
  blue: "#7aa8ff",
  magenta: "#d694ff",
  cyan: "#5ccdd6",
  white: "#cdd3dc",
  brightBlack: "#76818f",
  brightRed: "#ffa59f",
  brightGreen: "#8ee3a1",
  brightYellow: "#f4d08a",
  brightBlue: "#a9c7ff",
  brightMagenta: "#e7bdff",
  brightCyan: "#95e4ea",
  brightWhite: "#ffffff",
};

const LIGHT: ITheme = {
  background: "#ffffff",
  foreground: "#1a1f26",
  cursor: "#0a6b5b",
  cursorAccent: "#ffffff",
  selectionBackground: "#b8d3ff",
  black: "#1a1f26",
  red: "#b3261e",
  green: "#1a7334",
  yellow: "#805300",
  blue: "#0b57d0",
  magenta: "#8430a8",
  cyan: "#006a75",
  white: "#6b7580",
  brightBlack: "#56606d",
  brightRed: "#c73a31",
  brightGreen: "#24853f",
  brightYellow: "#946200",
  brightBlue: "#2a6be0",
  brightMagenta: "#9a45bd",
  brightCyan: "#0b7d88",
  brightWhite: "#3d4650",
};

/** The colors of xterm.js for those of the page. */
export function themeOf(colors: "dark" | "light"): ITheme {
  return colors === "dark" ? DARK : LIGHT;
}
