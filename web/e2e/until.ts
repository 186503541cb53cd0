/** Waiting for what comes, with a deadline that tells the last state. */

/** How often to look. */
const PAUSE_MS = 50;

/**
 * Looks until `look` gives something, and gives that. What it throws counts as not yet.
 */
export async function until<T>(
  what: string,
  limitMs: number,
  look: () => Promise<T | undefined | false>,
): Promise<T> {
  const deadline = Date.now() + limitMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found;
      last = found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      const why = last instanceof Error ? last.message : String(last);
      throw new Error(`${what}: not within ${limitMs} ms; last: ${why}`);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
