/** Use of a session over time, from what the server pushes every few seconds. */
/** One look at the use of a session. */
export interface Sample {
  /** When it came, in milliseconds since 1970. */
  readonly at: number;
  readonly cpuUsageUs: number;
  readonly memoryBytes: number;
  /** Share of one processor since the sample before; undefined for the first. */
  readonly cpu?: number;
}

/** Samples, oldest first. */
export type Samples = readonly Sample[];

/** Five minutes of one every two seconds: what a sparkline can show. */
export const SAMPLES_MAX = 150;
/** Two events within this are one look: their quotient would be noise. */
const APART_MS = 500;
/** The server looks so often, and tells only of what has changed. */
const PERIOD_MS = 2000;
/** No word for longer than this: nothing changed meanwhile. */
const QUIET_MS = 3 * PERIOD_MS;

/**
 * Adds what was just seen. A snapshot is a beginning: what happened before it is not known, also when it is the
 * snapshot after a break.
 */
export function addSample(
  samples: Samples,
  usage: Pick<Sample, "cpuUsageUs" | "memoryBytes">,
  now: number,
  snapshot = false,
): Samples {
  const last = samples.at(-1);
  const base = { at: now, cpuUsageUs: usage.cpuUsageUs, memoryBytes: usage.memoryBytes };
  if (last === undefined || snapshot) return [...samples, base].slice(-SAMPLES_MAX);
  if (now - last.at < APART_MS) return samples;
  const quiet = now - last.at > QUIET_MS;
  const before = quiet ? { ...last, at: now - PERIOD_MS, cpu: 0 } : last;
  const cpu = cpuShare(before, base);
  const added = cpu === undefined ? base : { ...base, cpu };
  return [...samples, ...(quiet ? [before] : []), added].slice(-SAMPLES_MAX);
}

/** The share of a processor as of now; undefined as long as it is not known. */
export function currentCpu(samples: Samples | undefined, now: number): number | undefined {
  const last = samples?.at(-1);
  return last !== undefined && now - last.at > QUIET_MS ? 0 : last?.cpu;
}

function cpuShare(from: Sample, to: Sample): number | undefined {
  const wall = to.at - from.at;
  // A session that was stopped and started again counts from zero.
  if (wall <= 0 || to.cpuUsageUs < from.cpuUsageUs) return undefined;
  return (to.cpuUsageUs - from.cpuUsageUs) / 1000 / wall;
}
