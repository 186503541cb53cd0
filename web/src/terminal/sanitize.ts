/**
 * What a program in a terminal may say to the page around it: titles, links, the clipboard. All of it is
 * written by whoever controls the output, which may be a file that somebody shows with `cat`.
 */

/** Characters of a title that are kept. */
export const TITLE_LENGTH_MAX = 200;

/** Bytes that a program may put into the clipboard. */
export const CLIPBOARD_BYTES_MAX = 100_000;

/** Longer addresses are not for people to check. */
const URL_LENGTH_MAX = 2048;

/** Control characters, and those that turn the direction of text around or are not seen at all. */
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

/** A title as it can be shown. */
export function cleanTitle(text: string): string {
  const start = text.slice(0, TITLE_LENGTH_MAX * 4);
  return [...start.replace(HIDDEN, "")].slice(0, TITLE_LENGTH_MAX).join("").trim();
}

/** An address that may be opened once a person agreed. */
export interface Link {
  /** The whole address, names of hosts in ASCII. */
  readonly href: string;
  readonly host: string;
}

/** Reads the target of a link; only http and https are any. */
export function safeLink(text: string): Link | undefined {
  if (text.length > URL_LENGTH_MAX || text.search(HIDDEN) >= 0) return undefined;
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return undefined;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return undefined;
  // A name before the host looks like the host.
  if (url.username !== "" || url.password !== "" || url.host === "") return undefined;
  return { href: url.href, host: url.host };
}

/** What OSC 52 asks for. */
export type ClipboardWish =
  | { readonly kind: "write"; readonly text: string }
  /** To read it: never. */
  | { readonly kind: "read" }
  | { readonly kind: "refused"; readonly reason: string };

/** Reads the payload of OSC 52, `selections;base64` or `selections;?`. */
export function parseClipboard(payload: string): ClipboardWish {
  const at = payload.indexOf(";");
  if (at < 0 || at > 16) return { kind: "refused", reason: "not understood" };
  const data = payload.slice(at + 1);
  if (data === "?") return { kind: "read" };
  if (data.length > Math.ceil(CLIPBOARD_BYTES_MAX / 3) * 4) return { kind: "refused", reason: "too long" };
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  } catch {
    return { kind: "refused", reason: "not understood" };
  }
  if (bytes.length > CLIPBOARD_BYTES_MAX) return { kind: "refused", reason: "too long" };
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    // An escape character in the clipboard could end a bracketed paste early.
    return { kind: "write", text: text.replace(/[^\P{Cc}\n\r\t]/gu, "") };
  } catch {
    return { kind: "refused", reason: "no text" };
  }
}
