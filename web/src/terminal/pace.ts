/**
 * How often the page draws: at each frame of the display, but less often while terminals have much to parse. What a
 * flood shows in between no eye can read, and drawing it takes the time in which more of it could be parsed.
 *
 * xterm.js has no word for this: it asks the window for the next frame, so the window gives fewer of them.
 */

/** So many bytes that wait for the parser are a flood: more than any program's screen. */
const FLOOD_BYTES = 96 * 1024;
/** From one frame of a flood to the next. */
const FLOOD_FRAME_MS = 50;

/** What waits to be parsed in all terminals of the page. */
let waiting = 0;

/** What waits to be parsed in one terminal. */
export class Load {
  #bytes = 0;

  /** Bytes came; gives what to call when they are parsed. */
  add(bytes: number): () => void {
    this.#count(bytes);
    return () => this.#count(-bytes);
  }

  /** The terminal is gone, and parses no more. */
  end(): void {
    this.#count(-this.#bytes);
    this.#count = () => {};
  }

  #count = (bytes: number): void => {
    this.#bytes += bytes;
    waiting += bytes;
  };
}

/** The part of a window that gives frames. */
type Frames = Pick<Window, "requestAnimationFrame" | "cancelAnimationFrame">;

/** Lets a window draw at this pace from now on. */
export function keepPace(frames: Frames): void {
  const next = frames.requestAnimationFrame.bind(frames);
  const cancel = frames.cancelAnimationFrame.bind(frames);
  /** What cancels each callback that waits for more than a frame. Their numbers are below zero, a frame's above. */
  const held = new Map<number, () => void>();
  let lastFrameAt = Number.NEGATIVE_INFINITY;
  let lastId = 0;
  frames.requestAnimationFrame = (callback) => {
    const draw = (time: number) => {
      lastFrameAt = performance.now();
      callback(time);
    };
    const wait = lastFrameAt + FLOOD_FRAME_MS - performance.now();
    if (waiting < FLOOD_BYTES || wait <= 0) return next(draw);
    lastId -= 1;
    const id = lastId;
    const timer = setTimeout(() => {
      const frame = next((time) => {
        held.delete(id);
        draw(time);
      });
      held.set(id, () => cancel(frame));
    }, wait);
    held.set(id, () => clearTimeout(timer));
    return id;
  };
  frames.cancelAnimationFrame = (id) => {
    if (id >= 0) cancel(id);
    held.get(id)?.();
    held.delete(id);
  };
}
