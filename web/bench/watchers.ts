/** Fifty watchers on one shell: what the slowest of them sees, and what that costs the server. */
import type { Program } from "./processes";
import { goal, report, Samples, say } from "./samples";
import { cookieOf, newSession, type Stage } from "./stage";
import { Client } from "./websocket";

const WATCHERS = 50;
/** Lines with the time of their writing, one each 10 ms. */
const LINES = 300;
const BULK_BYTES = 16_000_000;
const LINE_BYTES = 80;
const BULK_SHOWN_BYTES = (BULK_BYTES / LINE_BYTES) * (LINE_BYTES + 1);
const ROUNDS = 3;

const STDIN = 0x00;
const STDOUT = 0x01;

/** Somebody who has a shell open: bytes so far, and the lags that were seen. */
class Watcher {
  bytes = 0;
  lags: number[] = [];
  #text = "";
  #wanted = Number.POSITIVE_INFINITY;
  #done: (() => void) | undefined;
  isTimed = false;

  output(payload: Buffer): void {
    this.bytes += payload.length;
    if (this.isTimed) {
      this.#text += payload.toString("latin1");
      const now = performance.timeOrigin + performance.now();
      for (;;) {
        const match = /T(\d+\.\d+)\r\n/.exec(this.#text);
        if (!match) break;
        this.lags.push(now - Number(match[1]) * 1000);
        this.#text = this.#text.slice(match.index + match[0].length);
      }
    }
    this.#look();
  }

  #look(): void {
    if (this.bytes >= this.#wanted || (this.isTimed && this.lags.length >= LINES)) {
      this.#wanted = Number.POSITIVE_INFINITY;
      this.#done?.();
    }
  }

  /** Waits for so many bytes more, or in timed mode for all lines. */
  async next(bytes: number): Promise<void> {
    const from = this.bytes;
    await new Promise<void>((done, failed) => {
      const late = setTimeout(
        () =>
          failed(
            new Error(`a watcher has ${this.bytes - from} of ${bytes} bytes, ${this.lags.length} lines`),
          ),
        60_000,
      );
      this.#done = () => {
        clearTimeout(late);
        done();
      };
      this.#wanted = from + bytes;
    });
  }
}

/** One shell of a server, with those who watch it. */
interface Theater {
  readonly name: string;
  readonly process: Program;
  connect(watcher: Watcher, isWriter: boolean): Promise<Client>;
  type(client: Client, line: string): void;
}

/** Measures. */
export async function watchers(stage: Stage): Promise<void> {
  const theaters = [ourTheater(stage), theirTheater(stage)];
  const notes: string[] = [];
  for (const count of [1, WATCHERS]) {
    const [lags, slowest, times]: [Samples[], Samples[], Samples[]] = [[], [], []];
    for (const theater of theaters) {
      const [lag, last, time] = [
        new Samples(theater.name),
        new Samples(theater.name),
        new Samples(theater.name),
      ];
      const people = Array.from({ length: count }, () => new Watcher());
      const author = new Watcher();
      const writer = await theater.connect(author, true);
      const clients = [writer];
      for (const person of people) clients.push(await theater.connect(person, false));
      const note = await costs(theater, writer, [author, ...people], [lag, last, time]);
      notes.push(`${theater.name}, ${count} watching: ${note}`);
      lags.push(lag);
      slowest.push(last);
      times.push(time);
      for (const client of clients) client.close();
    }
    report(`${count} watching ${LINES} lines, one each 10 ms: from writing to a watcher`, "ms", lags);
    report(`${count} watching: the slowest watcher of each line`, "ms", slowest);
    report(`${count} watching ${BULK_BYTES / 1e6} MB at once: until the last has every byte`, "ms", times);
  }
  say("");
  for (const note of notes) say(note);
  goal(`${WATCHERS} watchers have every byte`, true);
}

async function costs(
  theater: Theater,
  writer: Client,
  everybody: readonly Watcher[],
  [lag, slowest, bulk]: readonly [Samples, Samples, Samples],
): Promise<string> {
  const people = everybody.slice(1);
  theater.type(writer, "stty -echo; PS1=; echo re''ady");
  await settled(everybody);
  // Lines with times.
  for (const one of everybody) [one.isTimed, one.lags] = [true, []];
  const before = await theater.process.cpu();
  const waits = everybody.map((one) => one.next(Number.POSITIVE_INFINITY));
  theater.type(
    writer,
    `for i in $(seq ${LINES}); do printf 'T%s\\n' $EPOCHREALTIME; read -t 0.01 _ <> <(:); done`,
  );
  await Promise.all(waits);
  const lineCpu = (await theater.process.cpu()) - before;
  for (let line = 0; line < LINES; line += 1) {
    const seen = people.map((person) => person.lags[line] ?? Number.NaN);
    lag.add(...seen);
    slowest.add(Math.max(...seen));
  }
  // All at once.
  for (const one of everybody) [one.isTimed, one.lags] = [false, []];
  const from = await theater.process.cpu();
  let pss = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    await settled(everybody);
    const all = Promise.all(everybody.map((one) => one.next(BULK_SHOWN_BYTES)));
    const start = performance.now();
    theater.type(writer, `yes ${"x".repeat(LINE_BYTES - 1)} | head -c ${BULK_BYTES}`);
    await all;
    bulk.add(performance.now() - start);
    pss = Math.max(pss, await theater.process.pss());
  }
  const bulkCpu = (await theater.process.cpu()) - from;
  const perGb = bulkCpu / ((ROUNDS * BULK_SHOWN_BYTES * everybody.length) / 1e9);
  return [
    `server's processor ${((lineCpu / (LINES / 100)) * 100).toFixed(1)} % during the lines`,
    `${perGb.toFixed(2)} s per GB sent`,
    `memory (PSS) ${pss.toFixed(1)} MiB`,
  ].join(", ");
}

/** Waits until nothing has come for a moment. */
async function settled(everybody: readonly Watcher[]): Promise<void> {
  const count = () => everybody.reduce((sum, one) => sum + one.bytes, 0);
  for (let last = -1; last !== count(); ) {
    last = count();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

function ourTheater(stage: Stage): Theater {
  const headers = { Cookie: cookieOf(stage), Origin: stage.ours };
  const [session, shell] = [newSession(), "web-watched"];
  return {
    name: "clamshell",
    process: stage.server,
    connect: (watcher, isWriter) => {
      const query = new URLSearchParams({ runtime: "default", qualifier: "DEFAULT", from: "end" });
      query.set("access", isWriter ? "write" : "watch");
      query.set("window", "1048576");
      if (isWriter) query.set("create", "true");
      const url = `${stage.ours}/clamshell/v1/sessions/${session}/shells/${shell}/attach?${query}`;
      let [got, told] = [0, 0];
      let client: Client | undefined;
      const opening = Client.open(url, headers, (payload) => {
        if (payload[0] !== STDOUT) return;
        watcher.output(payload.subarray(1));
        got += payload.length - 1;
        if (!client || got - told < 262_144) return;
        told = got;
        const consumed = Buffer.alloc(9);
        consumed[0] = 0x06;
        consumed.writeBigUInt64BE(BigInt(got), 1);
        client.send(consumed);
      });
      return opening.then((opened) => {
        client = opened;
        return opened;
      });
    },
    type: (client, line) => client.send(Buffer.concat([Buffer.of(STDIN), Buffer.from(`${line}\r`)])),
  };
}

function theirTheater(stage: Stage): Theater {
  return {
    name: "terminado",
    process: stage.peer,
    connect: (watcher) =>
      Client.open(`${stage.theirs}/socket/watched`, { Origin: stage.theirs }, (payload) => {
        const [what, text] = JSON.parse(payload.toString()) as [string, string];
        if (what === "stdout") watcher.output(Buffer.from(text));
      }),
    type: (client, line) => client.send(Buffer.from(JSON.stringify(["stdin", `${line}\r`])), true),
  };
}
