/**
 * Names and lines from sandboxes, made safe to look at. They are only ever shown as text; but text can still lie:
 * a mark that turns the direction of writing makes `gpj.exe` of `exe.jpg`, and a newline makes two names of one.
 */

/** Control characters, marks of direction, and characters that show nothing. */
const HIDDEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** A text with everything that hides written out, such as `\n` and `\u{202e}`. */
export function printable(text: string): string {
  return text.replace(HIDDEN, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\r") return "\\r";
    if (character === "\t") return "\\t";
    return `\\u{${character.charCodeAt(0).toString(16)}}`;
  });
}

/** True when {@link printable} would change the text. */
export function hides(text: string): boolean {
  HIDDEN.lastIndex = 0;
  return HIDDEN.test(text);
}

/** A name that a browser may save a file as: no separators, nothing hidden, not empty. */
export function saveName(name: string): string {
  const plain = name.replace(HIDDEN, "_").replace(/[/\\:*?"<>|]/g, "_");
  return /^\.*$/.test(plain) ? "file" : plain.slice(0, 200);
}
