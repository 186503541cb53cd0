/** What agents print, live. */
import { useState } from "preact/hooks";
import { runtimes, sessions, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { listEndpoints } from "../api/runtimes";
import { count } from "../components/format";
import { useLoad } from "../components/load";
import { Empty, Failed, Loading, PageHead } from "../components/parts";
import { complain, note } from "../components/toast";
import { href, navigate, route } from "../router";
import type { LogList } from "./logs/lines";
import { type LogTarget, useLines } from "./logs/lines_live";
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

function LogPage(props: LogTarget) {
  const lines = useLines(props);
  const { list, live, paused } = lines;
  const [following, setFollowing] = useState(true);
  const [wrap, setWrap] = useState(true);
  const [columns, setColumns] = useState(120);
  const [text, setText] = useState("");
  const [source, setSource] = useState("");

  list.show({ text: text.trim(), source }, wrap ? columns : 0);

  if (lines.refused !== null) return <Failed text={lines.refused} />;
  return (
    <div class="log-page">
      <search class="tools">
        <Target {...props} />
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
        <Toggle label="Follow" on={following} onChange={setFollowing} />
        <Toggle label="Pause" on={paused} onChange={lines.setPaused} />
        <Toggle label="Wrap" on={wrap} onChange={setWrap} />
        <button type="button" onClick={() => void copy(list)}>
          Copy
        </button>
        <span class="muted small" role="status">
          {live ? "Live" : "Connecting…"}
          {paused && `, paused with ${count(lines.waiting, "new line")}`}
          {`, ${count(list.size, "line")}`}
          {list.dropped > 0 && ` (${count(list.dropped, "older one")} let go)`}
        </span>
      </search>
      {list.size === 0 && live ? (
        <Empty
          title="The agent has printed nothing yet"
          commands={[`clamshell invoke ${props.runtime} 'hello'`, `clamshell logs ${props.runtime} --follow`]}
        >
          <p class="muted">What it prints to its output appears here as it comes. To have it work:</p>
        </Empty>
      ) : (
        <LogView
          rows={list.rows}
          version={lines.version.count}
          removed={lines.version.removed}
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

/** Copies the lines that are shown. */
async function copy(list: LogList): Promise<void> {
  try {
    await navigator.clipboard.writeText(list.text());
    note("The lines that are shown were copied");
  } catch {
    complain(new Error("The browser did not allow to copy"));
  }
}

function Toggle(props: {
  readonly label: string;
  readonly on: boolean;
  readonly onChange: (on: boolean) => void;
}) {
  return (
    <button type="button" aria-pressed={props.on} onClick={() => props.onChange(!props.on)}>
      {props.label}
    </button>
  );
}

function Target(props: LogTarget) {
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
