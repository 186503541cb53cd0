/** What agents print, live. */
import { useEffect, useRef, useState } from "preact/hooks";
import { runtimes, sessions, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { listEndpoints } from "../api/runtimes";
import { count } from "../components/format";
import { useLoad } from "../components/load";
import { Empty, Failed, Loading, PageHead } from "../components/parts";
import { complain, note } from "../components/toast";
import { href, navigate, route } from "../router";
import { follow } from "./logs/follow";
import { type LogLine, LogList } from "./logs/lines";
import { LogView } from "./logs/view";

/** The page. */
export default function Logs(_props: { readonly me: SignedIn }) {
  useTopics("runtimes", "sessions");
  const [, runtime, endpoint = "DEFAULT"] = route.value.path;
  const session = route.value.query.get("session") ?? "";
  if (runtime === undefined) return <Choose />;
  return (
    <>
      <PageHead title={`Logs of ${runtime}`} crumbs={[["Agent logs", href(["logs"])]]} />
      <LogPage
        key={`${runtime}|${endpoint}|${session}`}
        runtime={runtime}
        endpoint={endpoint}
        session={session}
      />
    </>
  );
}

function Choose() {
  const all = runtimes.value;
  return (
    <>
      <PageHead title="Agent logs" />
      {all === null ? (
        <Loading />
      ) : all.size === 0 ? (
        <Empty
          title="No runtimes yet"
          commands={[
            "clamshell create hello --agent plain-http",
            "clamshell deploy ./hello",
            "clamshell logs hello --follow",
          ]}
        >
          <p class="muted">What an agent prints appears here. Deploy one first:</p>
        </Empty>
      ) : (
        <>
          <p class="muted">Whose log?</p>
          <ul class="card plain-list">
            {[...all.values()].map((runtime) => (
              <li key={runtime.agentRuntimeArn}>
                <a href={href(["logs", runtime.agentRuntimeName, "DEFAULT"])}>{runtime.agentRuntimeName}</a>{" "}
                <span class="muted">{runtime.description}</span>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}

function LogPage(props: { readonly runtime: string; readonly endpoint: string; readonly session: string }) {
  const list = useRef(new LogList());
  const waiting = useRef<LogLine[]>([]);
  const [version, setVersion] = useState({ count: 0, removed: 0 });
  const [live, setLive] = useState(false);
  const [refused, setRefused] = useState<string | null>(null);
  const [following, setFollowing] = useState(true);
  const [paused, setPaused] = useState(false);
  const [wrap, setWrap] = useState(true);
  const [columns, setColumns] = useState(120);
  const [text, setText] = useState("");
  const [source, setSource] = useState("");
  const pausedNow = useRef(paused);
  pausedNow.current = paused;

  const take = () => {
    const lines = waiting.current;
    waiting.current = [];
    if (lines.length === 0) return;
    const removed = list.current.add(lines);
    setVersion((was) => ({ count: was.count + 1, removed }));
  };
  const takeNow = useRef(take);
  takeNow.current = take;

  useEffect(() => {
    const stop = new AbortController();
    let frame = 0;
    const listener = {
      onLines: (lines: readonly LogLine[]) => {
        for (const line of lines) waiting.current.push(line);
        if (pausedNow.current || frame !== 0) return;
        // However fast lines come, the page is drawn once for each picture of the screen.
        frame = requestAnimationFrame(() => {
          frame = 0;
          if (!pausedNow.current) takeNow.current();
        });
      },
      onLive: setLive,
      onRefused: (cause: Error) => setRefused(cause.message),
    };
    void follow(
      { runtime: props.runtime, endpoint: props.endpoint, session: props.session },
      listener,
      stop.signal,
    );
    return () => {
      stop.abort();
      cancelAnimationFrame(frame);
    };
  }, [props.runtime, props.endpoint, props.session]);

  list.current.show({ text: text.trim(), source }, wrap ? columns : 0);
  const { rows } = list.current;

  const copy = async () => {
    try {
      await navigator.clipboard.writeText(list.current.text());
      note("The lines that are shown were copied");
    } catch {
      complain(new Error("The browser did not allow to copy"));
    }
  };

  if (refused !== null) return <Failed text={refused} />;
  return (
    <div class="log-page">
      <search class="tools">
        <Target runtime={props.runtime} endpoint={props.endpoint} session={props.session} />
        <input
          type="search"
          aria-label="Filter lines"
          placeholder="Filter lines"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <select aria-label="Source" value={source} onChange={(event) => setSource(event.currentTarget.value)}>
          <option value="">Agent and platform</option>
          <option value="agent">Agent</option>
          <option value="platform">Platform</option>
        </select>
        <button type="button" aria-pressed={following} onClick={() => setFollowing(!following)}>
          Follow
        </button>
        <button
          type="button"
          aria-pressed={paused}
          onClick={() => {
            if (paused) take();
            setPaused(!paused);
          }}
        >
          Pause
        </button>
        <button type="button" aria-pressed={wrap} onClick={() => setWrap(!wrap)}>
          Wrap
        </button>
        <button type="button" onClick={() => void copy()}>
          Copy
        </button>
        <span class="muted small" role="status">
          {live ? "Live" : "Connecting…"}
          {paused && `, paused with ${count(waiting.current.length, "new line")}`}
          {`, ${count(list.current.size, "line")}`}
          {list.current.dropped > 0 && ` (${count(list.current.dropped, "older one")} let go)`}
        </span>
      </search>
      {list.current.size === 0 && live ? (
        <Empty
          title="The agent has printed nothing yet"
          commands={[`clamshell invoke ${props.runtime} 'hello'`, `clamshell logs ${props.runtime} --follow`]}
        >
          <p class="muted">What it prints to its output appears here as it comes. To have it work:</p>
        </Empty>
      ) : (
        <LogView
          rows={rows}
          version={version.count}
          removed={version.removed}
          follow={following && !paused}
          wrap={wrap}
          showSession={props.session === ""}
          onFollow={setFollowing}
          onColumns={setColumns}
        />
      )}
    </div>
  );
}

function Target(props: { readonly runtime: string; readonly endpoint: string; readonly session: string }) {
  const { runtime, endpoint, session } = props;
  const id = [...(runtimes.value?.values() ?? [])].find(
    (one) => one.agentRuntimeName === runtime,
  )?.agentRuntimeId;
  const endpoints = useLoad(async (signal) => (id === undefined ? [] : listEndpoints(id, signal)), [id]);
  const names = new Set(["DEFAULT", endpoint, ...(endpoints.value ?? []).map((one) => one.name)]);
  const ids = new Set<string>(session === "" ? [] : [session]);
  for (const one of sessions.value?.values() ?? []) {
    if (one.runtimeName === runtime && one.qualifier === endpoint) ids.add(one.sessionId);
  }
  return (
    <>
      <select
        aria-label="Endpoint"
        value={endpoint}
        onChange={(event) => navigate(href(["logs", runtime, event.currentTarget.value]))}
      >
        {[...names].map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <select
        class="session-select"
        aria-label="Session"
        value={session}
        onChange={(event) =>
          navigate(href(["logs", runtime, endpoint], { session: event.currentTarget.value || undefined }))
        }
      >
        <option value="">All sessions</option>
        {[...ids].map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
    </>
  );
}
