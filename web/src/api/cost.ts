/** What a session has used in all and what that costs, in words. */
import { duration, NOTHING } from "../components/format";
import type { Session, Usage } from "./types";

/** Amounts below this show as no more than it. */
const SHOWN_LEAST = 0.0001;

/** The cost of a session so far; {@link NOTHING} where it is not known. */
export function costText(usage: Usage | undefined): string {
  const cost = usage?.cost;
  if (cost == null) return NOTHING;
  if (cost.amount > 0 && cost.amount < SHOWN_LEAST) return `< ${SHOWN_LEAST} ${cost.currency}`;
  return `${cost.amount.toFixed(cost.amount >= 100 ? 2 : 4)} ${cost.currency}`;
}

/** Why something of the use is not known, or only a part of it; undefined where there is nothing to say. */
export function usageNotes(usage: Usage | undefined): string | undefined {
  const notes = usage?.notes ?? ["this server does not count what sessions use"];
  return notes.length === 0 ? undefined : notes.join("; ");
}

/** What the cost is made of: `1m 05s CPU, 12.3 GB s memory`. */
export function usedText(usage: Usage | undefined): string {
  const [cpu, memory] = [usage?.cpuSeconds, usage?.memoryGbSeconds];
  const cpuText = cpu == null ? NOTHING : cpu < 60 ? `${cpu.toFixed(1)}s` : duration(cpu * 1000);
  const memoryText = memory == null ? NOTHING : memory.toFixed(memory < 10 ? 3 : 1);
  return `${cpuText} CPU, ${memoryText} GB s memory`;
}

/** What sessions are sorted by: those whose cost is not known come last. */
export function costOf(session: Session): number | undefined {
  return session.usage?.cost?.amount;
}
