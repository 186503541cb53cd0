/** Use of a session over time, from what the server pushes every few seconds. */
import type { Usage } from "./types";

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
/** After a gap as long as this the average over it would look like a value of now. */
const GAP_MS = 30_000;

/** Adds what was just seen. */
export function addSample(samples: Samples, usage: Usage, now: number): Samples {
  const last = samples.at(-1);
  if (last !== undefined && now - last.at < APART_MS) return samples;
  const base = {
    at: now,
    cpuUsageUs: usage.cpuUsageUs,
    memoryBytes: usage.memoryBytes,
  };
  const cpu = last === undefined ? undefined : cpuShare(last, base);
  return [...samples, cpu === undefined ? base : { ...base, cpu }].slice(-SAMPLES_MAX);
}

/** The last known share of a processor. */
export function currentCpu(samples: Samples | undefined): number | undefined {
  return samples?.at(-1)?.cpu;
}

function cpuShare(from: Sample, to: Sample): number | undefined {
  const wall = to.at - from.at;
  // A session that was stopped and started again counts from zero.
  if (wall <= 0 || wall > GAP_MS || to.cpuUsageUs < from.cpuUsageUs) return undefined;
  return (to.cpuUsageUs - from.cpuUsageUs) / 1000 / wall;
}
