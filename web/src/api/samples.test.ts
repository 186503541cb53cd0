import { expect, it } from "vitest";
import { addSample, currentCpu, SAMPLES_MAX, type Samples } from "./samples";

const usage = (cpuUsageUs: number) => ({
  cpuUsageUs,
  memoryBytes: 1,
  pids: 1,
});

/** The shares after samples of [milliseconds, microseconds of processor]. */
function shares(...looks: readonly (readonly [number, number])[]): (number | undefined)[] {
  const found = looks.reduce<Samples>((samples, [at, cpu]) => addSample(samples, usage(cpu), at), []);
  return found.map((sample) => sample.cpu);
}

it("gives the share of one processor between two looks", () => {
  expect(shares([0, 0], [2000, 500_000], [4000, 4_500_000])).toEqual([undefined, 0.25, 2]);
});

it("gives none over a restart, a gap, or a clock that went back", () => {
  expect(shares([0, 9_000_000], [2000, 10])).toEqual([undefined, undefined]);
  expect(shares([0, 0], [60_000, 1_000_000])).toEqual([undefined, undefined]);
  expect(shares([5000, 0], [1000, 1])).toEqual([undefined]);
});

it("takes two looks at once for one, and keeps a bounded number", () => {
  expect(shares([0, 0], [100, 90_000])).toEqual([undefined]);
  const many = Array.from({ length: SAMPLES_MAX + 9 }, (_, index) => [index * 2000, 0] as const);
  expect(shares(...many)).toHaveLength(SAMPLES_MAX);
  expect(currentCpu(undefined)).toBeUndefined();
});
