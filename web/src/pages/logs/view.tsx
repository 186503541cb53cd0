/** Many rows, of which only those in sight are in the page. Every row is as high as any other. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { part } from "./ansi";
import type { Row } from "./lines";

/** Height of a row in pixels; the style sheet has the same. */
export const ROW_PX = 18;
/** Rows beyond the edges, so that a quick turn of the wheel shows no gap. */
const BEYOND = 30;
/** Below this width there is no room for the session of each line. */
const NARROW_PX = 600;
/** Browsers cannot scroll much further than this. */
const HEIGHT_MAX_PX = 15_000_000;

/** Which rows are in the page. */
export function windowOf(
  scrollTop: number,
  height: number,
  count: number,
): { readonly from: number; readonly to: number } {
  const from = Math.max(0, Math.min(count, Math.floor(scrollTop / ROW_PX)) - BEYOND);
  const to = Math.min(count, Math.ceil((scrollTop + height) / ROW_PX) + BEYOND);
  return { from, to: Math.max(from, to) };
}

/** The rows. */
export function LogView(props: {
  readonly rows: readonly Row[];
  /** Changes with every change of the rows. */
  readonly version: number;
  /** Rows that went at the beginning since the version before. */
  readonly removed: number;
  readonly follow: boolean;
  readonly wrap: boolean;
  readonly showSession: boolean;
  readonly onFollow: (follow: boolean) => void;
  readonly onColumns: (columns: number) => void;
}) {
  const { rows, follow } = props;
  const box = useRef<HTMLDivElement>(null);
  const probe = useRef<HTMLSpanElement>(null);
  const [scroll, setScroll] = useState({ top: 0, height: 600 });
  const [narrow, setNarrow] = useState(false);

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const measure = () => {
      const cell = (probe.current?.getBoundingClientRect().width ?? 0) / 10;
      setScroll({ top: element.scrollTop, height: element.clientHeight });
      const isNarrow = element.clientWidth < NARROW_PX;
      setNarrow(isNarrow);
      // What stands before each message: the time, and the session where there is room.
      const before = isNarrow ? 100 : props.showSession ? 224 : 144;
      if (cell > 0) props.onColumns(Math.max(20, Math.floor((element.clientWidth - before) / cell)));
    };
    const watcher = new ResizeObserver(measure);
    watcher.observe(element);
    measure();
    return () => watcher.disconnect();
  }, [props.showSession]);

  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    if (follow) element.scrollTop = element.scrollHeight;
    else if (props.removed > 0) element.scrollTop -= props.removed * ROW_PX;
  }, [props.version, follow, scroll.height]);

  const onScroll = () => {
    const element = box.current;
    if (element === null) return;
    setScroll({ top: element.scrollTop, height: element.clientHeight });
    const atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - ROW_PX;
    if (!atEnd && follow && element.scrollTop < scroll.top) props.onFollow(false);
  };

  // The end is drawn before the scroll event that follows: under a flood that one is always behind.
  const top = follow ? Math.max(0, rows.length * ROW_PX - scroll.height) : scroll.top;
  const { from, to } = windowOf(top, scroll.height, rows.length);
  return (
    <div
      class={`log${props.wrap ? " wrap" : ""}${narrow ? " narrow" : ""}`}
      ref={box}
      onScroll={onScroll}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: keys scroll it.
      tabIndex={0}
      role="log"
      aria-live="off"
      aria-label="Log"
    >
      <span class="log-probe" ref={probe} aria-hidden="true">
        0000000000
      </span>
      <div class="log-space" style={{ height: `${Math.min(HEIGHT_MAX_PX, rows.length * ROW_PX)}px` }}>
        <div class="log-rows" style={{ transform: `translateY(${from * ROW_PX}px)` }}>
          {rows.slice(from, to).map((row, index) => (
            <LogRow key={from + index} row={row} showSession={props.showSession} />
          ))}
        </div>
      </div>
    </div>
  );
}

function LogRow(props: { readonly row: Row; readonly showSession: boolean }) {
  const { line, from, to } = props.row;
  const first = from === 0;
  return (
    <div class={line.source === "platform" ? "log-row platform" : "log-row"}>
      <span class="log-time" title={line.timestamp}>
        {first ? timeOfDay(line.timestamp) : ""}
      </span>
      {props.showSession && (
        <span class="log-session" title={line.sessionId}>
          {first ? line.sessionId.slice(-8) : ""}
        </span>
      )}
      <span class="log-text">
        {part(line.message, from, to).map((span, index) => (
          <span key={index} class={span.look}>
            {span.text}
          </span>
        ))}
      </span>
    </div>
  );
}

/** Hours to milliseconds of a time, as this browser's clock has them. */
export function timeOfDay(timestamp: string): string {
  const date = new Date(timestamp);
  if (Number.isNaN(date.getTime())) return "";
  const two = (value: number) => String(value).padStart(2, "0");
  const ms = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}
