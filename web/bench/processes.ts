/** Programs of a measurement, and what the kernel says of them. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";

/** A program that runs until it is stopped. */
export class Program {
  constructor(readonly child: ChildProcess) {}

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Proportional share of memory, in MiB. */
  async pss(): Promise<number> {
    const text = await readFile(`/proc/${this.pid}/smaps_rollup`, "utf8");
    return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? Number.NaN) / 1024;
  }

  /** Processor time so far, in seconds. */
  async cpu(): Promise<number> {
    const text = await readFile(`/proc/${this.pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    // Clock ticks are hundredths of a second on Linux.
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** Asks it to end, and waits for that. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.stdin?.end();
    this.child.kill("SIGTERM");
    await ended;
  }
}

/** Starts a program and waits for output that fits; gives what the pattern took out of it. */
export async function start(
  command: string,
  args: readonly string[],
  pattern: RegExp,
): Promise<[Program, string]> {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  const found = await new Promise<string>((resolve, reject) => {
    const failed = (reason: string) => reject(new Error(`${command}: ${reason}\n${output}`));
    const timer = setTimeout(() => failed("says nothing"), 30_000);
    const read = (chunk: Buffer) => {
      // What it says later is read, or it would stop at a full pipe, but not kept.
      if (output.length < 65_536) output += chunk.toString();
      const match = pattern.exec(output)?.[1];
      if (match === undefined) return;
      clearTimeout(timer);
      resolve(match);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", (error) => failed(error.message));
    child.once("exit", (code) => failed(`ended with ${code}`));
  });
  return [new Program(child), found];
}

/** Runs a program to its end; gives its output. */
export async function run(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const code = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Error(`${command} ended with ${code}`);
  return output;
}

/** Looks at a number again and again until it is told to stop; gives the largest. */
export function watchLargest(look: () => Promise<number>): () => Promise<number> {
  let [isOver, largest] = [false, 0];
  const loop = (async () => {
    while (!isOver) {
      largest = Math.max(largest, await look());
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  })();
  return async () => {
    isOver = true;
    await loop;
    return largest;
  };
}
