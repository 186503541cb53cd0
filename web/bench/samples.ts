/** Numbers of contestants and how they are shown: those of one group are measured in turn, in one run, as ratios. */

/** Numbers of one contestant. */
export class Samples {
  readonly values: number[] = [];

  constructor(readonly name: string) {}

  add(...values: number[]): void {
    this.values.push(...values);
  }

  /** Nearest-rank percentile; NaN when nothing was measured. */
  percentile(percent: number): number {
    const sorted = this.values.toSorted((a, b) => a - b);
    const rank = Math.max(1, Math.ceil((sorted.length * percent) / 100));
    return sorted[rank - 1] ?? Number.NaN;
  }
}

/** Prints a line. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints a group; the first contestant is ours. */
export function report(title: string, unit: string, contestants: readonly Samples[]): void {
  say(`\n## ${title}`);
  const ours = contestants[0]?.percentile(50) ?? Number.NaN;
  for (const one of contestants) {
    const p50 = one.percentile(50);
    const cells = [
      one.name.padEnd(40),
      `p50 ${p50.toFixed(2).padStart(9)} ${unit}`,
      `p99 ${one.percentile(99).toFixed(2).padStart(9)} ${unit}`,
      `n ${String(one.values.length).padStart(4)}`,
      `ours/this ${(ours / p50).toFixed(2)}`,
    ];
    say(cells.join("   "));
  }
}

/** Prints whether a goal was reached. */
export function goal(text: string, isReached: boolean): void {
  say(`goal ${isReached ? "reached" : "MISSED"}: ${text}`);
}
