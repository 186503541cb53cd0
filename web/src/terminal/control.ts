/** The Ctrl key of a phone, which has none. */

/** What the key of a letter or sign gives while Ctrl is held. */
export function controlOf(byte: number): number {
  if (byte >= 0x61 && byte <= 0x7a) return byte - 0x60;
  if (byte >= 0x40 && byte <= 0x5f) return byte - 0x40;
  if (byte === 0x20) return 0;
  return byte === 0x3f ? 0x7f : byte;
}
