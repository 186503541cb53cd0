/** One terminal with its head: what it is, how it is doing, what can be done with it. */
import { useEffect, useRef } from "preact/hooks";
import type { SignedIn } from "../api/me";
import { closeForGood, detach, download, nameOf, perform, rename, startAnew } from "./actions";
import { describeState } from "./effects";
import { focus, type Pane } from "./layout";
import type { LiveTerminal } from "./live";
import { arrange, liveOf } from "./store";
import { PANE_TYPE } from "./tabs";

export function PaneView(props: {
  readonly pane: Pane;
  readonly me: SignedIn | null;
  readonly isFocused: boolean;
  readonly onDrop: (paneId: string) => void;
}) {
  const { pane, me, isFocused } = props;
  const live = liveOf(pane);
  const section = useRef<HTMLElement>(null);
  const slot = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (section.current && slot.current) live.mount(section.current, slot.current);
    if (isFocused) live.focus();
  }, [live]);
  const name = nameOf(pane);
  return (
    <section
      ref={section}
      class={`term-pane${isFocused ? " focused" : ""}${live.hasBell.value ? " bell" : ""}`}
      aria-label={`Terminal ${name}`}
      onFocusCapture={() => {
        if (!isFocused) arrange((all) => focus(all, pane.id));
      }}
      onDragOver={(event) => {
        if (event.dataTransfer?.types.includes(PANE_TYPE)) event.preventDefault();
      }}
      onDrop={(event) => {
        const dragged = event.dataTransfer?.getData(PANE_TYPE);
        if (!dragged) return;
        event.preventDefault();
        props.onDrop(dragged);
      }}
    >
      <Head pane={pane} live={live} me={me} name={name} />
      <div class={`term-slot${live.isForeign.value || pane.access === "watch" ? " given" : ""}`} ref={slot} />
      <Notices live={live} />
      <Over pane={pane} live={live} canStart={me !== null && me.role !== "viewer"} />
    </section>
  );
}

function Head(props: {
  readonly pane: Pane;
  readonly live: LiveTerminal;
  readonly me: SignedIn | null;
  readonly name: string;
}) {
  const { pane, live, me, name } = props;
  const state = live.state.value;
  const canWrite = pane.access === "write";
  const isOver = state.name === "ended" || state.name === "failed";
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dragging has a key of its own, Alt+Shift+M.
    <header
      class="term-head"
      draggable={me !== null}
      onDragStart={(event) => event.dataTransfer?.setData(PANE_TYPE, pane.id)}
    >
      <i class={`dot ${state.name}`} aria-hidden="true" />
      <span class="term-name" title={`${name} · session ${pane.session}`}>
        {name}
      </span>
      <span class="term-state" role="status">
        {describeState(state)}
        {pane.access === "watch" && " · watching, read-only"}
      </span>
      <span class="term-size muted" title="Columns and rows">
        {live.size.value}
      </span>
      {live.isForeign.value && canWrite && (
        <button
          type="button"
          class="plain small"
          title="Another window set this size; typing takes it back as well"
          onClick={() => {
            live.socket.useOwnSize();
            live.focus();
          }}
        >
          Use my size
        </button>
      )}
      <span class="grow" />
      {me && (
        <span class="term-actions">
          <HeadButton label="Search" sign="⌕" onClick={() => perform({ do: "find" })} pane={pane} />
          {canWrite && !isOver && (
            <>
              <HeadButton label="Rename" sign="✎" onClick={() => void rename(pane)} pane={pane} />
              {me.features.includes("shares") && (
                <HeadButton label="Share" sign="↗" onClick={() => perform({ do: "share" })} pane={pane} />
              )}
              <HeadButton label="Take over" sign="⇥" onClick={() => live.socket.takeOver()} pane={pane} />
            </>
          )}
          {me.features.includes("recordings") && (
            <HeadButton label="Download the recording" sign="⤓" onClick={() => download(pane)} pane={pane} />
          )}
          <HeadButton label="Detach; the shell goes on" sign="−" onClick={() => detach(pane)} pane={pane} />
          {canWrite && !isOver && (
            <HeadButton label="End the shell" sign="×" onClick={() => void closeForGood(pane)} pane={pane} />
          )}
        </span>
      )}
    </header>
  );
}

function HeadButton(props: {
  readonly label: string;
  readonly sign: string;
  readonly pane: Pane;
  readonly onClick: () => void;
}) {
  return (
    <button
      type="button"
      class="plain small"
      aria-label={props.label}
      title={props.label}
      onClick={() => {
        arrange((all) => focus(all, props.pane.id));
        props.onClick();
      }}
    >
      <span aria-hidden="true">{props.sign}</span>
    </button>
  );
}

function Notices(props: { readonly live: LiveTerminal }) {
  const { live } = props;
  const part = live.progress.value;
  return (
    <div class="term-notices">
      <div role="status">{live.notice.value !== "" && <p class="term-notice">{live.notice.value}</p>}</div>
      {part !== undefined && (
        <p class="term-notice">
          <label>
            Pasting <progress value={part} max={1} /> {Math.round(part * 100)} %
          </label>{" "}
          <span class="muted">Ctrl+C stops it</span>
        </p>
      )}
      {live.clipboardWish.value !== undefined && (
        <div class="term-notice" role="alert">
          <p>
            A program wants to fill your clipboard ({live.clipboardWish.value.length} characters). May
            programs in this terminal do so?
          </p>
          <button type="button" class="small" onClick={() => live.answerClipboard(true)}>
            Allow
          </button>{" "}
          <button type="button" class="small" onClick={() => live.answerClipboard(false)}>
            Never here
          </button>
        </div>
      )}
    </div>
  );
}

/** What covers a terminal that is over, and the ways on. */
function Over(props: { readonly pane: Pane; readonly live: LiveTerminal; readonly canStart: boolean }) {
  const { pane, live, canStart } = props;
  const state = live.state.value;
  const main = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    // Enter goes on, but only for whoever was in this terminal.
    if (live.host.contains(document.activeElement)) main.current?.focus();
  }, [state.name]);
  if (state.name === "ended") {
    return (
      <div class="term-over">
        <p>{describeState(state)}</p>
        {canStart && (
          <button type="button" class="primary" ref={main} onClick={() => startAnew(pane)}>
            Start a new shell (Enter)
          </button>
        )}
        <button type="button" onClick={() => detach(pane)}>
          Close
        </button>
      </div>
    );
  }
  if (state.name === "takenOver") {
    return (
      <div class="term-over">
        <p>Another window took this shell over.</p>
        <button type="button" class="primary" ref={main} onClick={() => live.socket.takeOver()}>
          Take it back
        </button>
      </div>
    );
  }
  if (state.name === "failed") {
    return (
      <div class="term-over">
        <p>{describeState(state)}</p>
        <button type="button" class="primary" ref={main} onClick={() => live.socket.retry()}>
          Try again
        </button>
      </div>
    );
  }
  return null;
}
