/** What a file's bytes are, by looking at them: a name may say anything. */

/** A larger text is not shown: it would make the page slow, and nobody reads it here. */
export const TEXT_BYTES_MAX = 1024 * 1024;
/** A larger picture is not shown. */
export const IMAGE_BYTES_MAX = 20 * 1024 * 1024;
/** This much of a binary file is shown. */
export const HEX_BYTES = 4096;
/** The server takes no larger file. */
export const UPLOAD_BYTES_MAX = 1024 * 1024 * 1024;

/** Types of pictures that hold nothing but a picture; SVG holds scripts and is not among them. */
export type ImageType = "image/png" | "image/jpeg" | "image/gif" | "image/webp";

/** What a file is. */
export type Content =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "image"; readonly type: ImageType }
  | { readonly kind: "binary"; readonly hex: string };

/** Says what bytes are. `whole` is false when there are more of them. */
export function classify(bytes: Uint8Array, whole: boolean): Content {
  const type = imageType(bytes);
  if (type !== null) return { kind: "image", type };
  const text = whole ? asText(bytes) : asText(withoutCutCharacter(bytes));
  return text === null
    ? { kind: "binary", hex: hexDump(bytes.subarray(0, HEX_BYTES)) }
    : { kind: "text", text };
}

/** The type of a picture by its first bytes; null for anything else. */
export function imageType(bytes: Uint8Array): ImageType | null {
  const starts = (signature: readonly number[], at = 0) =>
    signature.every((byte, index) => bytes[at + index] === byte);
  const ascii = (text: string) => [...text].map((character) => character.charCodeAt(0));
  if (starts([0x89, ...ascii("PNG\r\n"), 0x1a, 0x0a])) return "image/png";
  if (starts([0xff, 0xd8, 0xff])) return "image/jpeg";
  if (starts(ascii("GIF87a")) || starts(ascii("GIF89a"))) return "image/gif";
  if (starts(ascii("RIFF")) && starts(ascii("WEBP"), 8)) return "image/webp";
  return null;
}

/** Bytes as lines of 16: place, hexadecimal, and what of it can be printed. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0"));
    const left = hex.slice(0, 8).join(" ").padEnd(23);
    const right = hex.slice(8).join(" ").padEnd(23);
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left}  ${right}  ${text}`);
  }
  return lines.join("\n");
}

function asText(bytes: Uint8Array): string | null {
  // A byte of zero is in no text, and in nearly every other file.
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** The bytes without the beginning of a character at their end. */
function withoutCutCharacter(bytes: Uint8Array): Uint8Array {
  for (let back = 1; back <= 3 && back <= bytes.length; back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) break;
    if (byte >= 0xc0) return bytes.subarray(0, bytes.length - back);
  }
  return bytes;
}
