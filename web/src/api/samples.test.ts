import { expect, it } from "vitest";
import { addSample, currentCpu, SAMPLES_MAX, type Samples } from "./samples";

const usage = (cpuUsageUs: number) => ({ cpuUsageUs, memoryBytes: 1, pids: 1 });

/** Samples after looks of [milliseconds, microseconds of processor]. */
function after(...looks: readonly (readonly [number, number])[]): Samples {
  return looks.reduce<Samples>((samples, [at, cpu]) => addSample(samples, usage(cpu), at), []);
}
const shares = (...looks: readonly (readonly [number, number])[]) =>
  after(...looks).map((sample) => sample.cpu);

it("gives the share of one processor between two looks", () => {
  expect(shares([0, 0], [2000, 500_000], [4000, 4_500_000])).toEqual([undefined, 0.25, 2]);
});

it("gives none over a restart or a clock that went back", () => {
  expect(shares([0, 9_000_000], [2000, 10])).toEqual([undefined, undefined]);
  expect(shares([5000, 0], [1000, 1])).toEqual([undefined]);
});

it("takes silence for rest, since only changes are told", () => {
  const quiet = after([0, 0], [2000, 1_000_000], [60_000, 2_000_000]);
  expect(quiet.map((sample) => [sample.at, sample.cpu])).toEqual([
    [0, undefined],
    [2000, 0.5],
    [58_000, 0],
    [60_000, 0.5],
  ]);
  expect(currentCpu(quiet, 61_000)).toBe(0.5);
  expect(currentCpu(quiet, 70_000)).toBe(0);
  expect(currentCpu(undefined, 0)).toBeUndefined();
});

it("begins anew with a snapshot: what happened during a break is not known", () => {
  const again = addSample(after([0, 0], [2000, 1000]), usage(90_000_000), 4000, true);
  expect(again.at(-1)).toEqual({ at: 4000, cpuUsageUs: 90_000_000, memoryBytes: 1 });
});

it("takes two looks at once for one, and keeps a bounded number", () => {
  expect(shares([0, 0], [100, 90_000])).toEqual([undefined]);
  const many = Array.from({ length: SAMPLES_MAX + 9 }, (_, index) => [index * 2000, 0] as const);
  expect(shares(...many)).toHaveLength(SAMPLES_MAX);
});
