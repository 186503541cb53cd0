import { Terminal } from "@xterm/headless";
import { expect, it } from "vitest";
import { ReplyGate } from "./replies";

/** What the terminal answers to pieces that are old or new. */
async function answers(pieces: readonly (readonly [text: string, isOld: boolean])[]): Promise<string[]> {
  const terminal = new Terminal({ allowProposedApi: true, windowOptions: { getWinSizeChars: true } });
  const gate = new ReplyGate();
  gate.watch(terminal.parser);
  const said: string[] = [];
  terminal.onData((data) => said.push(data.replaceAll("\x1b", "^")));
  await Promise.all(
    pieces.map(
      ([text, isOld]) =>
        new Promise<void>((done) => {
          gate.written(isOld);
          terminal.write(text, () => {
            gate.parsed();
            done();
          });
        }),
    ),
  );
  terminal.dispose();
  return said;
}

/** Device attributes, cursor, mode, status string, size. */
const QUESTIONS = "\x1b[c\x1b[>c\x1b[5n\x1b[6n\x1b[?6n\x1b[?25$p\x1bP$qm\x1b\\\x1b[18t";

it("questions of old output get no answer, those of new output do", async () => {
  expect(await answers([[QUESTIONS, true]])).toEqual([]);
  expect((await answers([[QUESTIONS, false]])).length).toBeGreaterThanOrEqual(6);
});

it("the border is exact, whatever is written at once", async () => {
  const mixed = await answers([
    ["old\x1b[6n", true],
    ["12\x1b[6n", false],
    ["\x1b[6n", true],
    ["\x1b[5n", false],
  ]);
  expect(mixed).toEqual(["^[1;6R", "^[0n"]);
});

it("a question that is cut is judged where it ends", async () => {
  expect(
    await answers([
      ["\x1b[", true],
      ["6n", false],
    ]),
  ).toEqual(["^[1;1R"]);
  expect(
    await answers([
      ["\x1b[6", false],
      ["n", true],
    ]),
  ).toEqual([]);
});

it("colors are set by old output, and not told", async () => {
  expect(await answers([["\x1b]11;?\x07\x1b]4;1;?\x07\x1b]4;1;#ff0000\x07", true]])).toEqual([]);
});
