/**
 * Colors in lines of agents. Only what sets a color or weight is understood, and becomes a class of the page; every
 * other sequence is left out, so that a line can neither move, nor link, nor retitle anything.
 */

/** A piece of a line that looks the same throughout. */
export interface Span {
  readonly text: string;
  /** Classes of the style sheet; empty for plain text. */
  readonly look: string;
}

/** CSI, OSC, DCS and the like, with their strings; then lone escapes; then control characters but the tab. */
const SEQUENCE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
  /\u001b\[([0-9;:?<=>!]*)[ -/]*([@-~])|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\|$)|\u001b[ -/]*[0-~]?|\u009b[0-9;]*[@-~]|[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

const COLORS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"] as const;

interface Look {
  readonly color: string;
  readonly bold: boolean;
  readonly dim: boolean;
}

const PLAIN: Look = { color: "", bold: false, dim: false };

/** Splits a line into pieces of one look. */
export function spans(line: string): readonly Span[] {
  const found: Span[] = [];
  let look = PLAIN;
  let from = 0;
  const add = (text: string) => {
    if (text !== "") found.push({ text, look: classes(look) });
  };
  for (const match of line.matchAll(SEQUENCE)) {
    add(line.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") look = apply(look, match[1] ?? "");
  }
  add(line.slice(from));
  return found;
}

/** Splits a part of a line, which looks as it does within the whole. */
export function part(line: string, from: number, to: number): readonly Span[] {
  const before =
    from === 0 ? "" : [...line.slice(0, from).matchAll(SEQUENCE)].map((match) => match[0]).join("");
  return spans(before + line.slice(from, to));
}

/** A line without any sequence, for search and copies. */
export function plain(line: string): string {
  return line.replace(SEQUENCE, "");
}

function apply(look: Look, parameters: string): Look {
  const codes = parameters.split(";").map((code) => (code === "" ? 0 : Number(code)));
  let next = look;
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at] ?? 0;
    if (code === 0) next = PLAIN;
    else if (code === 1) next = { ...next, bold: true };
    else if (code === 2) next = { ...next, dim: true };
    else if (code === 22) next = { ...next, bold: false, dim: false };
    else if (code === 39) next = { ...next, color: "" };
    else if (code >= 30 && code <= 37) next = { ...next, color: COLORS[code - 30] ?? "" };
    else if (code >= 90 && code <= 97) next = { ...next, color: COLORS[code - 90] ?? "" };
    // 256 and true colors have arguments; they are passed over, since they may be illegible on this background.
    else if (code === 38 || code === 48) at += codes[at + 1] === 5 ? 2 : 4;
  }
  return next;
}

function classes(look: Look): string {
  const names: string[] = [];
  if (look.color !== "") names.push(`ansi-${look.color}`);
  if (look.bold) names.push("ansi-bold");
  if (look.dim) names.push("ansi-dim");
  return names.join(" ");
}
