/** Plays a recording in a terminal that takes no input. */
import { type ITheme, Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { duration } from "../../components/format";
import { colors, FONT_SIZE, terminalFontSize } from "../../components/preferences";
import { type Cast, parseSize, withoutPauses } from "./cast";
import { Playback, type Steps } from "./playback";

const SPEEDS = [0.5, 1, 2, 4, 8, 16] as const;
/** A longer pause than this is cut short when pauses are skipped. */
const PAUSE_S = 1.5;
/** Seconds that an arrow key moves. */
const JUMP_S = 5;

const THEMES: Record<"dark" | "light", ITheme> = {
  dark: { background: "#0e1116", foreground: "#e6e9ee", cursor: "#5ccdb4" },
  light: { background: "#ffffff", foreground: "#1a1f26", cursor: "#0a6b5b", selectionBackground: "#b9ddd5" },
};

/** The player. */
export default function Player(props: { readonly cast: Cast }) {
  const box = useRef<HTMLDivElement>(null);
  const [playing, setPlaying] = useState(true);
  const [speed, setSpeed] = useState(1);
  const [skip, setSkip] = useState(true);
  const [position, setPosition] = useState(0);
  const state = useRef<{ readonly terminal: Terminal; readonly playback: Playback } | null>(null);
  const cast = useRef<Cast>(props.cast);
  cast.current = skip ? withoutPausesOnce(props.cast) : props.cast;

  useEffect(() => {
    if (box.current === null) return;
    const terminal = new Terminal({
      cols: cast.current.cols,
      rows: cast.current.rows,
      disableStdin: true,
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
      fontSize: terminalFontSize.value,
      scrollback: 5000,
      theme: THEMES[colors.value],
      // A link in a recording goes nowhere: whoever made the output chose where.
      linkHandler: { activate: () => undefined },
    });
    // The keys steer the player: the terminal leaves all of them to the page.
    terminal.attachCustomKeyEventHandler(() => false);
    terminal.open(box.current);
    fitInto(terminal, box.current);
    const playback = new Playback(cast.current);
    state.current = { terminal, playback };
    show(terminal, cast.current, playback.seek(0));
    setPosition(0);
    const refit = () => box.current && fitInto(terminal, box.current);
    const onSize = terminal.onResize(refit);
    addEventListener("resize", refit);
    return () => {
      removeEventListener("resize", refit);
      onSize.dispose();
      state.current = null;
      terminal.dispose();
    };
  }, [props.cast, skip]);

  useEffect(() => {
    if (state.current) state.current.terminal.options.theme = THEMES[colors.value];
  }, [colors.value]);

  useEffect(() => {
    if (!playing) return;
    let last = performance.now();
    let frame = requestAnimationFrame(function tick(time) {
      const playback = state.current?.playback;
      const to = (playback?.position ?? 0) + (Math.max(0, time - last) / 1000) * speed;
      last = time;
      seek(to);
      if (playback?.ended) setPlaying(false);
      else frame = requestAnimationFrame(tick);
    });
    return () => cancelAnimationFrame(frame);
  }, [playing, speed, skip, props.cast]);

  const seek = (to: number) => {
    const current = state.current;
    if (current === null) return;
    show(current.terminal, current.playback.cast, current.playback.seek(to));
    setPosition(current.playback.position);
  };
  const toggle = () => {
    if (!playing && state.current?.playback.ended) seek(0);
    setPlaying(!playing);
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof HTMLSelectElement || event.target instanceof HTMLInputElement) return;
    const at = state.current?.playback.position ?? 0;
    const faster = SPEEDS[SPEEDS.findIndex((one) => one >= speed) + (event.key === ">" ? 1 : -1)];
    if (event.key === " " && !(event.target instanceof HTMLButtonElement)) toggle();
    else if (event.key === "ArrowLeft") seek(at - JUMP_S);
    else if (event.key === "ArrowRight") seek(at + JUMP_S);
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(Number.POSITIVE_INFINITY);
    else if ((event.key === ">" || event.key === "<") && faster !== undefined) setSpeed(faster);
    else return;
    event.preventDefault();
  };

  const { length } = cast.current;
  return (
    <section class="player" aria-label="Player" onKeyDown={onKey}>
      <div class="player-screen" ref={box} />
      <div class="player-bar">
        <button type="button" class="primary" onClick={toggle}>
          {playing ? "Pause" : "Play"}
        </button>
        <input
          class="grow"
          type="range"
          aria-label="Position"
          aria-valuetext={`${duration(position * 1000)} of ${duration(length * 1000)}`}
          min={0}
          max={length}
          step="any"
          value={position}
          onInput={(event) => seek(event.currentTarget.valueAsNumber)}
        />
        <span class="mono">
          {duration(position * 1000)} / {duration(length * 1000)}
        </span>
        <label class="check">
          Speed
          <select value={String(speed)} onChange={(event) => setSpeed(Number(event.currentTarget.value))}>
            {SPEEDS.map((one) => (
              <option key={one} value={String(one)}>
                {one}×
              </option>
            ))}
          </select>
        </label>
        <label class="check">
          <input type="checkbox" checked={skip} onChange={(event) => setSkip(event.currentTarget.checked)} />
          Skip pauses
        </label>
      </div>
      <p class="muted small">
        Keys: space plays and pauses, ← and → move by {JUMP_S} s, Home and End, &lt; and &gt; change the
        speed.
      </p>
    </section>
  );
}

/** Makes the font as small as it must be to show the whole screen, and no larger than a person chose. */
function fitInto(terminal: Terminal, box: HTMLElement): void {
  const screen = box.querySelector(".xterm-screen");
  if (screen === null || screen.clientWidth === 0) return;
  const size = terminal.options.fontSize ?? terminalFontSize.value;
  const room = { width: box.clientWidth - 32, height: Math.max(200, innerHeight - 270) };
  const share = Math.min(room.width / screen.clientWidth, room.height / screen.clientHeight);
  const fitting = Math.floor(size * share * 2) / 2;
  terminal.options.fontSize = Math.max(FONT_SIZE.min, Math.min(terminalFontSize.value, fitting));
}

const shortened = new WeakMap<Cast, Cast>();

/** The recording without pauses; worked out once for each. */
function withoutPausesOnce(cast: Cast): Cast {
  const known = shortened.get(cast);
  if (known !== undefined) return known;
  const short = withoutPauses(cast, PAUSE_S);
  shortened.set(cast, short);
  return short;
}

function show(terminal: Terminal, cast: Cast, steps: Steps): void {
  if (steps.reset) {
    // In line with what is still being parsed: a reset by the API would overtake it.
    terminal.write("\x1bc", () => resize(terminal, cast.cols, cast.rows));
  }
  let text = "";
  const flush = () => {
    if (text !== "") terminal.write(text);
    text = "";
  };
  for (const event of steps.events) {
    if (event.kind === "output") {
      text += event.data;
      continue;
    }
    const size = parseSize(event.data);
    if (size === null) continue;
    flush();
    // In line with the output: what was written before is parsed at the size that it was written for.
    terminal.write("", () => resize(terminal, size.cols, size.rows));
  }
  flush();
}

function resize(terminal: Terminal, cols: number, rows: number): void {
  if (terminal.cols !== cols || terminal.rows !== rows) terminal.resize(cols, rows);
}
