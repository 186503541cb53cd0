/** Plays a recording in a terminal that takes no input. */
import type { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { duration } from "../../components/format";
import { colors } from "../../components/preferences";
import { type Cast, withoutPauses } from "./cast";
import { Playback } from "./playback";
import { fitInto, openScreen, show, THEMES } from "./screen";

const SPEEDS = [0.5, 1, 2, 4, 8, 16] as const;
/** A longer pause than this is cut short when pauses are skipped. */
const PAUSE_S = 1.5;
/** Seconds that an arrow key moves. */
const JUMP_S = 5;

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
    const terminal = openScreen(box.current, cast.current);
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

  return (
    <section class="player" aria-label="Player" onKeyDown={onKey}>
      <div class="player-screen" ref={box} />
      <div class="player-bar">
        <button type="button" class="primary" onClick={toggle}>
          {playing ? "Pause" : "Play"}
        </button>
        <Slider position={position} length={cast.current.length} onSeek={seek} />
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

function Slider(props: {
  readonly position: number;
  readonly length: number;
  readonly onSeek: (position: number) => void;
}) {
  const [at, length] = [props.position, props.length].map((seconds) => duration(seconds * 1000));
  return (
    <>
      <input
        class="grow"
        type="range"
        aria-label="Position"
        aria-valuetext={`${at} of ${length}`}
        min={0}
        max={props.length}
        step="any"
        value={props.position}
        onInput={(event) => props.onSeek(event.currentTarget.valueAsNumber)}
      />
      <span class="mono">
        {at} / {length}
      </span>
    </>
  );
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
