/**
 * A gigabyte of output: shown as fast as xterm.js parses, with memory of server and page flat. A PTY takes more of a
 * machine than the parser does, so on few cores the two of them side by side are the most that there is.
 */
import type { Tab } from "./browser";
import { run, watchLargest } from "./processes";
import { goal, report, Samples, say } from "./samples";
import { freshPage, openOurs, openPeer, type Stage, sameSize, typeUntil } from "./stage";

const ROUNDS = 8;
/** What the program writes in each round: together a gigabyte. */
const ROUND_BYTES = 128_000_000;
/** A line of the program; the terminal's line discipline makes one byte more of it. */
const LINE_BYTES = 80;
const SHOWN_BYTES = (ROUND_BYTES / LINE_BYTES) * (LINE_BYTES + 1);
/** The peer drops what waits for the parser beyond 50 MB, so it gets less. */
const PEER_BYTES = 32_000_000;
const PEER_SHOWN_BYTES = (PEER_BYTES / LINE_BYTES) * (LINE_BYTES + 1);
/** Part of the rate that parser and PTY reach side by side, without anything between them, that is reached at least. */
const RATE_MIN = 0.8;
/** Times the parser's own processor time that the page's thread takes for the same bytes, at most. */
const WORK_MAX = 1.25;
/** Memory may grow so much over the gigabyte, in MiB: caches and allocators settle. */
const GROWTH_MIB_MAX = 16;

/** Measures. */
export async function bulk(stage: Stage): Promise<void> {
  const ours = await openOurs(stage);
  const theirs = await openPeer(stage, "bulk");
  const parser = await freshPage(stage, false);
  await parser.goto(`${stage.theirs}/parser`);
  await parser.waitFor("a terminal", () => window.terminal !== undefined);
  for (const page of [theirs, parser]) await sameSize(ours, page);
  const output = (bytes: number) => `yes ${"x".repeat(LINE_BYTES - 1)} | head -c ${bytes}`;
  const program = (bytes: number) => `stty -echo; echo re''ady; while read _; do ${output(bytes)}; done`;
  await typeUntil(ours, program(ROUND_BYTES), "ready");
  await typeUntil(theirs, program(PEER_BYTES), "ready");

  const shown = new Samples("clamshell: a shell's output");
  const side = new Samples("xterm.js fed in the page, a PTY beside it");
  const fed = new Samples("xterm.js fed in the page, nothing beside");
  const peer = new Samples("terminado: a shell's output");
  const [ourWork, parserWork] = [new Samples("clamshell"), new Samples("xterm.js fed in the page")];
  const server: number[] = [];
  const heap: number[] = [];
  const note = async () => {
    server.push(await stage.server.pss());
    heap.push(await ours.heapMib());
  };
  const started = performance.now();
  await flood(ours, SHOWN_BYTES);
  await note();
  const cpu = await stage.server.cpu();
  const stop = watchLargest(() => stage.server.pss());
  for (let round = 0; round < ROUNDS; round += 1) {
    const [ourStart, parserStart] = [await ours.cpu(), await parser.cpu()];
    shown.add(await flood(ours, SHOWN_BYTES));
    ourWork.add(((await ours.cpu()) - ourStart) / (SHOWN_BYTES / 1e9));
    side.add(await sideBySide(stage, parser, output(ROUND_BYTES)));
    parserWork.add(((await parser.cpu()) - parserStart) / (SHOWN_BYTES / 1e9));
    fed.add(await feed(parser, SHOWN_BYTES / 2));
    peer.add(await flood(theirs, PEER_SHOWN_BYTES));
    await note();
  }
  const largest = await stop();
  const used = (await stage.server.cpu()) - cpu;
  report("output shown in Chromium", "MB/s", [shown, side, fed, peer]);
  report("of which: processor time of the page's thread", "s/GB", [ourWork, parserWork]);
  const rate = shown.percentile(50) / side.percentile(50);
  goal(`at least ${RATE_MIN} of parser and PTY side by side: ${rate.toFixed(2)}`, rate >= RATE_MIN);
  const work = ourWork.percentile(50) / parserWork.percentile(50);
  goal(
    `the page's thread works at most ${WORK_MAX} times the parser's own work: ${work.toFixed(2)}`,
    work <= WORK_MAX,
  );
  const total = (ROUNDS * SHOWN_BYTES) / 1e9;
  say(
    `all ${total.toFixed(3)} GB counted to the byte; whole group ${((performance.now() - started) / 1000).toFixed(0)} s`,
  );
  say(`server: ${(used / total).toFixed(2)} s of processor per GB`);
  const list = (values: readonly number[]) => values.map((value) => value.toFixed(1)).join(" ");
  say(`server's memory (PSS, MiB) after each round: ${list(server)}; largest ${largest.toFixed(1)}`);
  say(`page's heap (MiB) after each round: ${list(heap)}`);
  const grown = (values: readonly number[]) => (values.at(-1) ?? 0) - (values[0] ?? 0);
  const [serverGrowth, heapGrowth] = [grown(server), grown(heap)];
  goal(
    `server's memory flat: ${serverGrowth.toFixed(1)} MiB more after a gigabyte`,
    serverGrowth < GROWTH_MIB_MAX,
  );
  goal(`page's heap flat: ${heapGrowth.toFixed(1)} MiB more after a gigabyte`, heapGrowth < GROWTH_MIB_MAX);
  for (const page of [ours, theirs, parser]) await page.close();
}

/** Lets the shell write a round; gives MB/s from the first byte parsed to the last. Every byte must come. */
async function flood(page: Tab, bytes: number): Promise<number> {
  await page.bringToFront();
  const counting = page.evaluate(async (expected) => {
    const pane = document.querySelector<HTMLElement>("[data-offset]");
    const offset = () => Number(pane?.dataset["offset"]);
    const base = offset();
    let [firstAt, first] = [0, 0];
    await new Promise<void>((done, failed) => {
      const late = setTimeout(() => failed(new Error(`${offset() - base} bytes of ${expected}`)), 120_000);
      const observer = new MutationObserver(() => {
        if (firstAt === 0 && offset() > base) [firstAt, first] = [performance.now(), offset() - base];
        if (offset() - base < expected) return;
        observer.disconnect();
        clearTimeout(late);
        done();
      });
      observer.observe(document.body, { subtree: true, attributes: true, attributeFilter: ["data-offset"] });
    });
    const seconds = (performance.now() - firstAt) / 1000;
    return { rate: (expected - first) / 1e6 / seconds, surplus: offset() - base - expected };
  }, bytes);
  await page.press("Enter");
  const { rate, surplus } = await counting;
  if (surplus !== 0) throw new Error(`${surplus} bytes too many`);
  return rate;
}

/**
 * What this machine can do at most: the page parses bytes of its own, while the program writes as many into a PTY
 * from which somebody reads and throws away. Gives MB/s until both are done.
 */
async function sideBySide(stage: Stage, page: Tab, line: string): Promise<number> {
  const start = performance.now();
  await Promise.all([feed(page, SHOWN_BYTES), run(stage.python, [stage.drain, line])]);
  return SHOWN_BYTES / 1e6 / ((performance.now() - start) / 1000);
}

/** Gives the same bytes to a terminal without any network; gives MB/s. */
async function feed(page: Tab, bytes: number): Promise<number> {
  await page.bringToFront();
  return page.evaluate(
    async ({ expected, line }) => {
      const { terminal } = window;
      if (!terminal) throw new Error("there is no terminal");
      const text = `${"x".repeat(line - 1)}\r\n`;
      const piece = new TextEncoder().encode(text.repeat(400));
      const start = performance.now();
      let [written, parsed] = [0, 0];
      await new Promise<void>((done) => {
        // A megabyte waits at any time: the parser never runs dry.
        const more = () => {
          while (written < expected && written - parsed < 1_048_576) {
            written += piece.length;
            terminal.write(piece, () => {
              parsed += piece.length;
              if (parsed >= expected) done();
              else more();
            });
          }
        };
        more();
      });
      return parsed / 1e6 / ((performance.now() - start) / 1000);
    },
    { expected: bytes, line: LINE_BYTES },
  );
}
