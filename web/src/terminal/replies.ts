/**
 * Programs ask the terminal questions (where is the cursor, which colors), and it answers as if somebody typed.
 * A question in a painted screen or in old output was asked and answered before: another answer would be junk
 * in the input of whatever runs now. So questions are swallowed while old bytes are parsed, and while another window
 * that shows the same shell answers.
 */
import type { IDisposable, IFunctionIdentifier, IParser } from "@xterm/xterm";

/** Questions that are control sequences: attributes, states, modes, the terminal's name, sizes. */
const QUESTIONS: readonly IFunctionIdentifier[] = [
  { final: "c" },
  { prefix: ">", final: "c" },
  { prefix: "=", final: "c" },
  { final: "n" },
  { prefix: "?", final: "n" },
  { intermediates: "$", final: "p" },
  { prefix: "?", intermediates: "$", final: "p" },
  { prefix: ">", final: "q" },
  { prefix: "?", final: "S" },
  { prefix: "?", final: "u" },
  { final: "t" },
];

/** Colors are asked for with a question mark where the color would be. */
const COLORS = [4, 10, 11, 12];

/** Knows whether what is parsed now is old. Pieces are parsed in the order in which they were written. */
export class ReplyGate {
  readonly #pieces: boolean[] = [];
  /** Somebody else answers. */
  isMute = false;

  /** A piece was written. */
  written(replay: boolean): void {
    this.#pieces.push(replay);
  }

  /** The oldest piece was parsed. */
  parsed(): void {
    this.#pieces.shift();
  }

  /** Whether the piece under way is old. */
  get isOld(): boolean {
    return this.#pieces[0] === true;
  }

  /** Watches the questions that a parser meets. Whoever watches last is asked first. */
  watch(parser: IParser): IDisposable[] {
    const swallows = () => this.isOld || this.isMute;
    return [
      ...QUESTIONS.map((id) => parser.registerCsiHandler(id, swallows)),
      parser.registerDcsHandler({ intermediates: "$", final: "q" }, swallows),
      ...COLORS.map((code) => parser.registerOscHandler(code, (data) => swallows() && data.includes("?"))),
    ];
  }
}
