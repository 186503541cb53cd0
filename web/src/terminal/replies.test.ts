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

it("a mute terminal answers nothing, whoever else watches the parser", async () => {
  const terminal = new Terminal({ allowProposedApi: true });
  const gate = new ReplyGate();
  gate.watch(terminal.parser);
  const said: string[] = [];
  terminal.onData((data) => said.push(data));
  // An add-on that answers for the terminal, as the one for pictures does.
  terminal.parser.registerCsiHandler({ final: "c" }, () => {
    terminal.input("\x1b[?62;4c", false);
    return true;
  });
  gate.watch(terminal.parser);
  const write = (text: string) => new Promise<void>((done) => terminal.write(text, done));
  gate.isMute = true;
  await write(QUESTIONS);
  expect(said).toEqual([]);
  gate.isMute = false;
  await write("\x1b[c");
  expect(said).toEqual(["\x1b[?62;4c"]);
  terminal.dispose();
});

it("colors are set by old output, and not told", async () => {
  expect(await answers([["\x1b]11;?\x07\x1b]4;1;?\x07\x1b]4;1;#ff0000\x07", true]])).toEqual([]);
});
