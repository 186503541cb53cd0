/** The terminal that a recording is played in: its looks, its size, and the steps of the recording. */
import { type ITheme, Terminal } from "@xterm/xterm";
import { colors, FONT_SIZE, terminalFontSize } from "../../components/preferences";
import { type Cast, parseSize } from "./cast";
import type { Steps } from "./playback";

/** Its colors. */
export const THEMES: Record<"dark" | "light", ITheme> = {
  dark: { background: "#0e1116", foreground: "#e6e9ee", cursor: "#5ccdb4" },
  light: { background: "#ffffff", foreground: "#1a1f26", cursor: "#0a6b5b", selectionBackground: "#b9ddd5" },
};

/** A terminal of a recording's size that takes no input. */
export function openScreen(box: HTMLElement, cast: Cast): Terminal {
  const terminal = new Terminal({
    cols: cast.cols,
    rows: cast.rows,
    disableStdin: true,
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
    fontSize: terminalFontSize.value,
    scrollback: 5000,
    theme: THEMES[colors.value],
    // A link in a recording goes nowhere: whoever made the output chose where.
    linkHandler: { activate: () => undefined },
  });
  // The keys steer the player: the terminal leaves all of them to the page.
  terminal.attachCustomKeyEventHandler(() => false);
  terminal.open(box);
  return terminal;
}

/** Makes the font as small as it must be to show the whole screen, and no larger than a person chose. */
export function fitInto(terminal: Terminal, box: HTMLElement): void {
  const screen = box.querySelector(".xterm-screen");
  if (screen === null || screen.clientWidth === 0) return;
  const size = terminal.options.fontSize ?? terminalFontSize.value;
  const room = { width: box.clientWidth - 32, height: Math.max(200, innerHeight - 270) };
  const share = Math.min(room.width / screen.clientWidth, room.height / screen.clientHeight);
  const fitting = Math.floor(size * share * 2) / 2;
  terminal.options.fontSize = Math.max(FONT_SIZE.min, Math.min(terminalFontSize.value, fitting));
}

/** Shows what comes next. */
export function show(terminal: Terminal, cast: Cast, steps: Steps): void {
  if (steps.reset) {
    // In line with what is still being parsed: a reset by the API would overtake it.
    terminal.write("\x1bc", () => resize(terminal, cast.cols, cast.rows));
  }
  let text = "";
  const flush = () => {
    if (text !== "") terminal.write(text);
    text = "";
  };
  for (const event of steps.events) {
    if (event.kind === "output") {
      text += event.data;
      continue;
    }
    const size = parseSize(event.data);
    if (size === null) continue;
    flush();
    // In line with the output: what was written before is parsed at the size that it was written for.
    terminal.write("", () => resize(terminal, size.cols, size.rows));
  }
  flush();
}

function resize(terminal: Terminal, cols: number, rows: number): void {
  if (terminal.cols !== cols || terminal.rows !== rows) terminal.resize(cols, rows);
}
