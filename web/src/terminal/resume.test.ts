/** A simulated server with a log cuts connections wherever it likes: what is shown must be the log, once and whole. */
import { expect, it } from "vitest";
import { Connection } from "./connection";
import type { Effect } from "./effects";
import { seeded } from "./seeded.test-support";

const LOG_BYTES = 20_000;

interface Outcome {
  readonly shown: Uint8Array;
  readonly from: number;
  readonly connections: number;
}

/** One life of a terminal, until the whole log was shown. */
function run(seed: number): Outcome {
  const random = seeded(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const log = Uint8Array.from({ length: LOG_BYTES }, () => below(256));
  const paintedAt = below(3000);
  const machine = new Connection({ access: "write", create: false, random });
  const shown: number[] = [];
  let from = paintedAt;
  let [now, id, cursor, connections] = [0, 0, 0, 0];
  let paint = 0;
  let isOpen = false;

  const send = (channel: number, payload: Uint8Array) => {
    const message = new Uint8Array(1 + payload.length);
    message[0] = channel;
    message.set(payload, 1);
    take(machine.message(id, message, now));
  };
  const status = (metadata: object) =>
    send(
      3,
      new TextEncoder().encode(
        JSON.stringify({ kind: "Status", apiVersion: "v1", metadata, status: "Success" }),
      ),
    );

  function take(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.type === "connect") {
        id = effect.id;
        connections += 1;
        const asked = /^offset:(\d+)$/.exec(effect.wish.from)?.[1];
        cursor = asked === undefined ? paintedAt : Number(asked);
        paint = asked === undefined ? 1 + below(50) : 0;
        isOpen = true;
      } else if (effect.type === "close" && effect.id === id) {
        isOpen = false;
      } else if (effect.type === "reset") {
        shown.length = 0;
        from = paintedAt;
      } else if (effect.type === "output" && effect.offset !== undefined) {
        shown.push(...effect.bytes);
        expect(effect.offset - shown.length).toBe(from);
      }
    }
  }

  /** Serves one connection until it is cut; `false` when it was cut in the handshake. */
  function serve(): void {
    const patience = below(12);
    const steps: (() => void)[] = [
      () => take(machine.opened(id, now)),
      () => status({ shellId: "a", reconnected: true, offset: cursor }),
      () => status({ shellId: "a", run: { offset: 0, end: LOG_BYTES, cols: 80, rows: 24 } }),
    ];
    if (paint > 0) steps.push(() => status({ shellId: "a", screen: { offset: paintedAt, bytes: paint } }));
    for (let step = 0; step < patience && isOpen; step += 1) {
      const next = steps[step];
      if (next) {
        next();
        continue;
      }
      // Frames end anywhere, also within the painted screen and right at its end.
      const old = Math.min(paint, below(60));
      paint -= old;
      const count = paint > 0 ? 0 : Math.min(LOG_BYTES - cursor, below(2500));
      const payload = new Uint8Array(old + count);
      payload.set(log.subarray(cursor, cursor + count), old);
      cursor += count;
      if (payload.length > 0) send(1, payload);
      if (random() < 0.2) take(machine.wake(now));
    }
    if (isOpen) {
      isOpen = false;
      take(machine.closed(id, [1001, 1006, 1008, 1011][below(4)] ?? 1006, "", now));
      take(
        machine.probed(
          id,
          random() < 0.5 ? { kind: "unreachable" } : { kind: "running", endOffset: LOG_BYTES },
          now,
        ),
      );
    }
  }

  take(machine.start(now));
  while (machine.offset !== LOG_BYTES && connections < 400) {
    serve();
    for (let step = 0; step < 10 && !isOpen; step += 1) {
      now += machine.next(now, 0) ?? 1000;
      take(machine.tick(now));
      if (machine.state.name === "failed") take(machine.retry(now));
    }
  }
  expect(machine.offset).toBe(LOG_BYTES);
  return { shown: Uint8Array.from(shown), from, connections };
}

it("loses and doubles nothing in 1,000 lives", () => {
  let cuts = 0;
  for (let seed = 1; seed <= 1000; seed += 1) {
    const random = seeded(seed);
    const log = Uint8Array.from({ length: LOG_BYTES }, () => Math.floor(random() * 256));
    const { shown, from, connections } = run(seed);
    cuts += connections - 1;
    const expected = log.subarray(from);
    expect(shown.length, `seed ${seed}`).toBe(expected.length);
    expect(
      shown.every((byte, at) => byte === expected[at]),
      `seed ${seed}`,
    ).toBe(true);
  }
  expect(cuts).toBeGreaterThan(5000);
}, 60_000);
