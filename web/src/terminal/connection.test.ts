import { describe, expect, it } from "vitest";
import { Connection } from "./connection";
import { describeState, type Effect, type Options, type Probe, type State } from "./effects";

const OPTIONS: Options = { access: "write", create: false, random: () => 0.5 };
const encode = (text: string) => new TextEncoder().encode(text);

/** A machine with a clock, and what it did. */
class Bench {
  readonly machine: Connection;
  now = 1_000_000;
  effects: Effect[] = [];
  id = 0;
  #paints = false;

  constructor(options: Partial<Options> = {}) {
    this.machine = new Connection({ ...OPTIONS, ...options });
    this.machine.resize(80, 24, this.now);
    this.take(this.machine.start(this.now));
  }

  take(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.type !== "connect") continue;
      this.id = effect.id;
      this.#paints = effect.wish.from === "screen";
    }
    this.effects.push(...effects);
  }

  message(channel: number, payload: Uint8Array): void {
    this.take(this.machine.message(this.id, Uint8Array.of(channel, ...payload), this.now));
    this.flush();
  }

  status(metadata: object, rest: object = { status: "Success" }): void {
    this.message(3, encode(JSON.stringify({ kind: "Status", apiVersion: "v1", metadata, ...rest })));
  }

  /** Opens, confirms and paints an empty screen at `offset`. */
  live(offset = 100, reconnected = true, run = 0): this {
    this.take(this.machine.opened(this.id, this.now));
    this.status({ shellId: "a", reconnected, offset });
    this.status({ shellId: "a", run: { offset: run, end: offset, cols: 80, rows: 24 } });
    if (this.#paints) this.status({ shellId: "a", screen: { offset, bytes: 0 } });
    return this;
  }

  closed(code: number, reason = ""): void {
    this.take(this.machine.closed(this.id, code, reason, this.now));
  }

  probed(probe: Probe): void {
    this.take(this.machine.probed(this.id, probe, this.now));
  }

  /** Lets time pass as the caller's timer would. */
  pass(ms: number): void {
    const end = this.now + ms;
    while (this.now < end) {
      this.now += Math.min(end - this.now, this.machine.next(this.now, 0) ?? ms);
      this.take(this.machine.tick(this.now));
      this.flush();
    }
  }

  flush(): void {
    this.take(this.machine.flush(this.now, 0));
  }

  input(text: string): void {
    this.take(this.machine.input(encode(text), this.now));
    this.flush();
  }

  /** What was done since the last call, in short. */
  did(): string[] {
    const all = this.effects.map(draw).filter((text) => text !== "");
    this.effects = [];
    return all;
  }
}

function draw(effect: Effect): string {
  switch (effect.type) {
    case "connect":
      return `connect ${effect.wish.from}${effect.wish.create ? " create" : ""}${effect.wish.takeover ? " takeover" : ""}`;
    case "send": {
      const kind = ["in", "", "", "", "size", "beat", "consumed"][effect.bytes[0] ?? 9];
      const payload = effect.bytes[0] === 0 ? ` ${new TextDecoder().decode(effect.bytes.subarray(1))}` : "";
      return `${kind}${payload}`;
    }
    case "output":
      return effect.bytes.length === 0
        ? ""
        : `${effect.replay ? "old" : "new"} ${new TextDecoder().decode(effect.bytes)}`;
    case "state":
      return describeState(effect.state);
    case "notice":
      return `notice ${effect.text}`;
    case "gap":
      return `gap ${effect.bytes}`;
    case "size":
      return `given ${effect.cols}x${effect.rows}`;
    default:
      return effect.type;
  }
}

describe("attaching", () => {
  it("paints the screen, then counts", () => {
    const bench = new Bench();
    expect(bench.did()).toEqual(["Connecting", "connect screen"]);
    bench.take(bench.machine.opened(bench.id, bench.now));
    bench.status({ shellId: "a", reconnected: true, offset: 500 });
    bench.status({ shellId: "a", run: { offset: 7, end: 502, cols: 100, rows: 30 } });
    bench.status({ shellId: "a", screen: { offset: 500, bytes: 6 } });
    expect(bench.did()).toEqual(["size", "Live", "given 100x30", "reset"]);
    bench.message(1, encode("pic"));
    expect(bench.machine.offset).toBeUndefined();
    bench.message(1, encode("tureoldnew"));
    expect(bench.did()).toEqual(["old pic", "old tur", "fit", "old eo", "new ldnew"]);
    expect(bench.machine.offset).toBe(507);
    bench.closed(1006);
    bench.pass(1000);
    expect(bench.did()).toEqual(["Reconnecting (1)", "Reconnecting (1)", "connect offset:507"]);
  });

  it("asks for the screen again when it came only in part", () => {
    const bench = new Bench();
    bench.take(bench.machine.opened(bench.id, bench.now));
    bench.status({ shellId: "a", reconnected: true, offset: 500 });
    bench.status({ shellId: "a", screen: { offset: 500, bytes: 6 } });
    bench.message(1, encode("pic"));
    bench.closed(1006);
    bench.pass(1000);
    expect(bench.did().at(-1)).toBe("connect screen");
  });

  it("starts a shell once, and never again after it was there", () => {
    const bench = new Bench({ create: true });
    expect(bench.did()).toEqual(["Connecting", "connect screen create"]);
    bench.live(0, false);
    // The size goes first; nothing is typed by the page.
    expect(bench.did()).toEqual(["size", "Live", "reset", "fit"]);
    bench.closed(1006);
    bench.pass(1000);
    expect(bench.did().at(-1)).toBe("connect offset:0");
  });

  it("shows where the log was cut", () => {
    const bench = new Bench().live(100);
    bench.did();
    bench.status({ shellId: "a", gap: { from: 100, to: 150 } });
    bench.message(1, encode("x"));
    expect(bench.did()).toEqual(["gap 50", "new x"]);
    expect(bench.machine.offset).toBe(151);
  });

  it("ignores what an older connection still says", () => {
    const bench = new Bench().live();
    const old = bench.id;
    bench.closed(1006);
    bench.pass(1000);
    bench.did();
    bench.take(bench.machine.message(old, Uint8Array.of(1, 65), bench.now));
    bench.take(bench.machine.closed(old, 4000, "", bench.now));
    bench.take(bench.machine.opened(old, bench.now));
    expect(bench.did()).toEqual([]);
  });
});

describe("close codes", () => {
  it.each<[number, State["name"]]>([
    [1000, "ended"],
    [1001, "reconnecting"],
    [1002, "failed"],
    [1003, "failed"],
    [1006, "reconnecting"],
    [1008, "reconnecting"],
    [1009, "failed"],
    [1011, "reconnecting"],
    [4000, "takenOver"],
    [4999, "reconnecting"],
  ])("%i leads to %s", (code, name) => {
    const bench = new Bench().live();
    bench.closed(code, "why");
    expect(bench.machine.state.name).toBe(name);
  });

  it("of a shell that has ended change nothing", () => {
    const bench = new Bench().live();
    bench.status({}, { status: "Failure", details: { causes: [{ reason: "ExitCode", message: "7" }] } });
    bench.closed(1000, "shell exited");
    expect(describeState(bench.machine.state)).toBe("Ended with exit code 7");
    bench.pass(60_000);
    expect(describeState(bench.machine.state)).toBe("Ended with exit code 7");
  });

  it("lets a person take the shell back", () => {
    const bench = new Bench().live();
    bench.closed(4000);
    bench.did();
    bench.take(bench.machine.retry(bench.now, true));
    expect(bench.did()).toEqual(["Reconnecting (1)", "connect offset:100 takeover"]);
    bench.live();
    bench.closed(1006);
    bench.pass(1000);
    expect(bench.did().at(-1)).toBe("connect offset:100");
  });
});

describe("a failed handshake", () => {
  const failed = () => {
    const bench = new Bench().live();
    bench.closed(1006);
    bench.pass(1000);
    bench.closed(1006);
    expect(bench.did().at(-1)).toBe("probe");
    return bench;
  };

  it.each<[Probe, string]>([
    [{ kind: "ended", code: 3, reason: "" }, "Ended with exit code 3"],
    [{ kind: "ended", code: undefined, reason: "the session was stopped" }, "Ended: the session was stopped"],
    [{ kind: "gone" }, "Ended: the shell or its session is gone"],
    [{ kind: "refused", message: "no" }, "Failed: no"],
    [{ kind: "unreachable" }, "Reconnecting (2)"],
    [{ kind: "running", endOffset: 200 }, "Reconnecting (2)"],
  ])("is told apart by asking: %j", (probe, words) => {
    const bench = failed();
    bench.probed(probe);
    expect(describeState(bench.machine.state)).toBe(words);
  });

  it("does not count bytes that the log no longer has", () => {
    const bench = failed();
    bench.probed({ kind: "running", endOffset: 50 });
    bench.pass(3000);
    expect(bench.did().at(-1)).toBe("connect screen");
  });

  it.each<[Probe, string]>([
    [{ kind: "gone" }, "Failed: the shell could not be started"],
    [{ kind: "unreachable" }, "Failed: the server did not answer"],
  ])("five times at the start is the end: %j", (probe, words) => {
    const bench = new Bench({ create: true });
    for (let attempt = 0; attempt < 6; attempt += 1) {
      bench.closed(1006);
      bench.probed(probe);
      bench.pass(15_000);
    }
    expect(describeState(bench.machine.state)).toBe(words);
    bench.did();
    bench.take(bench.machine.retry(bench.now));
    expect(bench.did().at(-1)).toBe("connect screen create");
  });

  it("does not reset the count: only a confirmation does", () => {
    const bench = new Bench().live();
    for (let attempt = 1; attempt <= 8; attempt += 1) {
      bench.closed(1006);
      expect(bench.machine.state).toMatchObject({ name: "reconnecting", attempt });
      bench.pass(15_000);
      // The handshake works, the confirmation never comes.
      bench.take(bench.machine.opened(bench.id, bench.now));
    }
    bench.status({ shellId: "a", reconnected: true, offset: 100 });
    bench.closed(1006);
    expect(bench.machine.state).toMatchObject({ name: "reconnecting", attempt: 1 });
  });
});

describe("time", () => {
  it("limits the wait for a confirmation", () => {
    const bench = new Bench();
    bench.pass(59_000);
    bench.did();
    bench.pass(2000);
    expect(bench.did()).toContain("close");
  });

  it("beats every 30 s, and 75 s of silence are the end", () => {
    const bench = new Bench().live();
    bench.did();
    bench.pass(74_000);
    expect(bench.did()).toEqual(["beat", "beat"]);
    bench.pass(6000);
    expect(bench.did()).toEqual(["close", "Reconnecting (1)", "connect offset:100"]);
  });

  it("asks for life after a sleep, and connects when there is none", () => {
    const bench = new Bench().live();
    bench.pass(1000);
    bench.did();
    bench.now += 8 * 3_600_000;
    bench.take(bench.machine.tick(bench.now));
    expect(bench.did()).toEqual(["beat"]);
    bench.pass(5000);
    expect(bench.did()).toEqual(["close", "Reconnecting (1)", "connect offset:100"]);
  });

  it("stays after a sleep when the server answers", () => {
    const bench = new Bench().live();
    bench.pass(1000);
    bench.now += 30_000;
    bench.take(bench.machine.tick(bench.now));
    bench.message(5, new Uint8Array());
    bench.did();
    bench.pass(20_000);
    expect(bench.did()).toEqual([]);
  });

  it("connects at once when the network or the person is back", () => {
    const bench = new Bench().live();
    bench.closed(1006);
    bench.did();
    bench.take(bench.machine.wake(bench.now));
    expect(bench.did()).toEqual(["Reconnecting (1)", "connect offset:100"]);
  });

  /** Time passes with the server answering heartbeats. */
  const age = (bench: Bench, ms: number, each: () => void = () => {}) => {
    for (let passed = 0; passed < ms; passed += 1000) {
      bench.pass(1000);
      bench.message(5, new Uint8Array());
      each();
    }
  };

  it("changes connections in a quiet moment before the hour, without a word", () => {
    const bench = new Bench().live();
    age(bench, 54 * 60_000);
    bench.did();
    // Somebody types without a pause: not now.
    age(bench, 3 * 60_000, () => bench.input("x"));
    expect(bench.did().filter((did) => did !== "in x" && did !== "beat")).toEqual([]);
    age(bench, 3000);
    expect(bench.did().filter((did) => did !== "beat")).toEqual(["close", "connect offset:100"]);
    expect(bench.machine.state.name).toBe("live");
    bench.input("kept");
    bench.live(100);
    expect(bench.did()).toEqual(["size", "Live", "in kept"]);
  });

  it("changes connections at 59 minutes at any rate, and says so when it takes long", () => {
    const bench = new Bench().live();
    age(bench, 59 * 60_000 + 5000, () => {
      if (bench.did().includes("connect offset:100")) return;
      bench.input("x");
    });
    expect(describeState(bench.machine.state)).toBe("Reconnecting (1)");
  });
});

describe("input", () => {
  it("is kept while offline and goes to the same program", () => {
    const bench = new Bench().live();
    bench.closed(1006);
    bench.input("ls");
    bench.input("\r");
    bench.pass(1000);
    bench.did();
    bench.live(100);
    expect(bench.did()).toEqual(["size", "Live", "in ls\r"]);
  });

  it("waits for the news which program it is", () => {
    const bench = new Bench().live();
    bench.closed(1006);
    bench.input("ls");
    bench.pass(1000);
    bench.take(bench.machine.opened(bench.id, bench.now));
    bench.did();
    bench.status({ shellId: "a", reconnected: true, offset: 100 });
    expect(bench.did()).toEqual(["size", "Live"]);
    bench.pass(600);
    expect(bench.did()).toEqual(["in ls"]);
  });

  it.each([
    ["a shell that was just started", false, 0],
    ["another run", true, 77],
  ])("is dropped for %s", (_, reconnected, run) => {
    const bench = new Bench().live();
    bench.closed(1006);
    bench.input("rm -rf x\r");
    bench.pass(1000);
    bench.did();
    bench.live(100, reconnected, run);
    const did = bench.did();
    expect(did).toContain(
      "notice this may be another program now; 9 bytes typed for the old one were not sent",
    );
    expect(did.filter((each) => each.startsWith("in"))).toEqual([]);
    bench.input("w");
    expect(bench.did()).toEqual(["in w"]);
  });

  it("has a limit while offline, told once", () => {
    const bench = new Bench().live();
    bench.closed(1006);
    bench.did();
    bench.input("x".repeat(65_536));
    bench.input("y");
    bench.input("z");
    expect(bench.did()).toEqual(["notice not connected: this was not kept, as more than 64 KiB would wait"]);
  });

  it("of a watcher is never sent, nor is a size", () => {
    const bench = new Bench({ access: "watch" }).live();
    bench.take(bench.machine.resize(10, 10, bench.now));
    bench.input("x");
    bench.pass(40_000);
    expect(bench.did().filter((did) => /^(in|size)/.test(did))).toEqual([]);
  });

  it("drops the rest of a paste on Ctrl+C, and ends the brackets", () => {
    const bench = new Bench().live();
    bench.did();
    bench.input(`\x1b[200~${"x".repeat(1_000_000)}\x1b[201~`);
    expect(bench.machine.pasteProgress).toBeGreaterThan(0);
    const sent = bench.did().join("").length;
    expect(sent).toBeLessThan(1_000_000);
    bench.input("\x03");
    bench.pass(1000);
    const did = bench.did();
    expect(did[0]).toMatch(/^notice the rest of the paste, \d+ bytes, was not sent$/);
    expect(did.slice(1)).toEqual(["in \x1b[201~\x03"]);
    expect(bench.machine.pasteProgress).toBeUndefined();
  });

  it("loses the rest of a large paste with the connection, and says so", () => {
    const bench = new Bench().live();
    bench.input("x".repeat(1_000_000));
    bench.did();
    bench.closed(1006);
    expect(bench.did()[0]).toMatch(/^notice connection lost: \d+ bytes of input were not sent$/);
  });
});

describe("sizes", () => {
  it("of another writer are shown until somebody types here", () => {
    const bench = new Bench().live();
    bench.did();
    bench.status({ shellId: "a", resized: { cols: 40, rows: 12 } });
    expect(bench.did()).toEqual(["given 40x12"]);
    expect(bench.machine.hasForeignSize).toBe(true);
    // Laying the other's screen out is no reason to fight for the size.
    bench.take(bench.machine.resize(80, 24, bench.now));
    expect(bench.did()).toEqual([]);
    bench.input("x");
    expect(bench.did()).toEqual(["fit", "size", "in x"]);
    expect(bench.machine.hasForeignSize).toBe(false);
  });

  it("are sent when they changed", () => {
    const bench = new Bench().live();
    bench.did();
    bench.take(bench.machine.resize(80, 24, bench.now));
    expect(bench.did()).toEqual([]);
    bench.take(bench.machine.resize(81, 24, bench.now));
    expect(bench.did()).toEqual(["size"]);
  });

  it("of the writer are followed by a watcher", () => {
    const bench = new Bench({ access: "watch" }).live();
    expect(bench.did()).toContain("given 80x24");
    bench.status({ shellId: "a", resized: { cols: 40, rows: 12 } });
    expect(bench.did()).toEqual(["given 40x12"]);
  });
});

it("answers what programs ask only while it is told to, and at first on no connection", () => {
  const bench = new Bench().live();
  const turns = () => {
    const found = bench.effects.filter((effect) => effect.type === "answers").map((effect) => effect.answers);
    bench.effects = [];
    return found;
  };
  expect(turns()).toEqual([]);
  bench.status({ shellId: "a", answers: true });
  bench.status({ shellId: "a", answers: true });
  expect(turns()).toEqual([true]);
  bench.status({ shellId: "a", answers: "no" });
  expect(turns()).toEqual([]);
  bench.closed(1006);
  bench.pass(10_000);
  expect(turns()).toEqual([false]);
});

it("tells how much was dealt with, so that the server sends on", () => {
  const bench = new Bench().live();
  bench.did();
  for (let frame = 0; frame < 16; frame += 1) bench.message(1, new Uint8Array(65_535));
  expect(bench.did().filter((did) => did === "consumed")).toEqual([]);
  bench.machine.processed(bench.id, 16 * 65_535);
  bench.flush();
  expect(bench.did()).toEqual(["consumed"]);
  // Of an older connection nothing counts.
  bench.machine.processed(bench.id - 1, 16 * 65_535);
});

it("goes on with its input where a server that counts says", () => {
  const bench = new Bench({ writer: "me" });
  const counted = (bytes: number, run = 0) => {
    bench.take(bench.machine.opened(bench.id, bench.now));
    bench.status({ shellId: "a", reconnected: true, offset: 100 });
    bench.status({ shellId: "a", typed: bytes });
    bench.status({ shellId: "a", run: { offset: run, end: 100, cols: 80, rows: 24 } });
  };
  counted(0);
  bench.status({ shellId: "a", screen: { offset: 100, bytes: 0 } });
  bench.did();
  bench.input("abc");
  bench.status({ shellId: "a", typed: 1 });
  bench.pass(1000);
  const sent = () =>
    bench.effects
      .splice(0)
      .flatMap((effect) =>
        effect.type === "send" && effect.bytes[0] === 0 ? [...effect.bytes.subarray(1)] : [],
      )
      .map((byte) => String.fromCharCode(byte))
      .join("");
  expect(sent()).toBe("abc");
  // Killed and started again: it has passed on two of them, and the same program goes on.
  bench.closed(1006);
  bench.input("d");
  bench.pass(20_000);
  counted(2);
  bench.pass(1000);
  expect(sent()).toBe("cd");
  // Another program gets nothing of what was typed for the one before.
  bench.closed(1006);
  bench.input("rm");
  bench.pass(20_000);
  counted(3, 7);
  bench.pass(1000);
  expect(sent()).toBe("");
  bench.input("x");
  bench.pass(1000);
  expect(sent()).toBe("x");
});
