/** Sessions, live: all of them, or one with everything that is known of it. */
import { useState } from "preact/hooks";
import { diskShare, useDisk } from "../api/disk";
import { samples, sessions, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { sessionKey } from "../api/reducer";
import { currentCpu } from "../api/samples";
import { newTerminalHref, sessionHref, terminalHref } from "../api/sessions";
import type { Session } from "../api/types";
import { useNow } from "../components/clock";
import { bytes, count, NOTHING, parseTime, percent, since, until } from "../components/format";
import {
  Empty,
  Loading,
  Meter,
  PageHead,
  RowButton,
  RowLink,
  type Sort,
  SortHead,
  sorted,
} from "../components/parts";
import { route } from "../router";
import { SessionPage } from "./session";
import { removeAsked, StateBadge, stopAsked } from "./session_actions";
import { abilities } from "./views";

/** The columns that sort. */
type Column = "session" | "state" | "runtime" | "age" | "idle" | "life" | "cpu" | "memory";

/** Sessions that a text finds: in the id, the runtime, the endpoint or the state. */
export function filterSessions(all: readonly Session[], text: string, state: string): readonly Session[] {
  const wanted = text.trim().toLowerCase();
  return all.filter((session) => {
    if (state === "running" && session.state === "Stopped") return false;
    if (state === "stopped" && session.state !== "Stopped") return false;
    if (wanted === "") return true;
    const words = [session.sessionId, session.runtimeName, session.qualifier, session.state];
    return words.some((word) => word.toLowerCase().includes(wanted));
  });
}

/** What a session is sorted by. */
export function sortValue(
  session: Session,
  column: Column,
  cpu: number | undefined,
): string | number | undefined {
  switch (column) {
    case "session":
      return session.sessionId;
    case "state":
      return session.state;
    case "runtime":
      return session.runtimeName;
    case "age":
      // The younger a session, the smaller its age.
      return -(parseTime(session.createdAt) ?? 0);
    case "idle":
      return parseTime(session.idleStopsAt) ?? undefined;
    case "life":
      return parseTime(session.lifetimeEndsAt) ?? undefined;
    case "cpu":
      return cpu;
    case "memory":
      return session.usage?.memoryBytes;
  }
}

/** The page. */
export default function Sessions(props: { readonly me: SignedIn }) {
  useTopics("sessions", "shells");
  const { path } = route.value;
  if (path.length >= 4) return <SessionPage me={props.me} path={path} />;
  return <SessionList me={props.me} />;
}

function SessionList(props: { readonly me: SignedIn }) {
  const [text, setText] = useState("");
  const [state, setState] = useState("all");
  const [sort, setSort] = useState<Sort<Column>>({ by: "age", down: false });
  const { operate } = abilities(props.me.role);
  const all = sessions.value;
  const now = useNow();
  const known = samples.value;
  const cpuOf = (session: Session) =>
    session.state === "Stopped" ? undefined : currentCpu(known.get(sessionKey(session)), now);

  const shown =
    all === null
      ? []
      : sorted(
          filterSessions([...all.values()], text, state),
          (session) => sortValue(session, sort.by, cpuOf(session)),
          sort.down,
        );
  const head = { sort, onSort: setSort };

  return (
    <>
      <PageHead title="Sessions">
        {operate && (
          <a class="button primary" href={newTerminalHref()}>
            New terminal
          </a>
        )}
      </PageHead>
      {all === null ? (
        <Loading />
      ) : all.size === 0 ? (
        <Empty
          title="No sessions yet"
          commands={[
            "clamshell exec --it",
            "clamshell deploy ./my-agent",
            "clamshell invoke my_agent 'hello'",
          ]}
        >
          <p class="muted">
            A session begins with its first terminal, command or invocation.{" "}
            <a href={newTerminalHref()}>Open a terminal</a>, or use the command line:
          </p>
        </Empty>
      ) : (
        <>
          <search class="tools">
            <input
              type="search"
              aria-label="Filter sessions"
              placeholder="Filter by id, runtime, endpoint"
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
            <select
              aria-label="State"
              value={state}
              onChange={(event) => setState(event.currentTarget.value)}
            >
              <option value="all">All states</option>
              <option value="running">Running</option>
              <option value="stopped">Stopped</option>
            </select>
            <span class="muted small" role="status">
              {shown.length === all.size
                ? count(all.size, "session")
                : `${shown.length} of ${count(all.size, "session")}`}
            </span>
          </search>
          <div class="table-wrap">
            <table class="cards">
              <thead>
                <tr>
                  <SortHead by="session" {...head}>
                    Session
                  </SortHead>
                  <SortHead by="state" {...head}>
                    State
                  </SortHead>
                  <SortHead by="runtime" {...head}>
                    Runtime
                  </SortHead>
                  <SortHead by="age" class="num" {...head}>
                    Age
                  </SortHead>
                  <SortHead by="idle" class="num" {...head}>
                    Idle left
                  </SortHead>
                  <SortHead by="life" class="num" {...head}>
                    Life left
                  </SortHead>
                  <SortHead by="cpu" class="num" {...head}>
                    CPU
                  </SortHead>
                  <SortHead by="memory" class="num" {...head}>
                    Memory
                  </SortHead>
                  <th scope="col" class="num">
                    Disk
                  </th>
                  <th scope="col" class="num">
                    Cost
                  </th>
                  <th scope="col">
                    <span class="visually-hidden">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {shown.map((session) => (
                  <SessionRow
                    key={sessionKey(session)}
                    session={session}
                    cpu={cpuOf(session)}
                    now={now}
                    operate={operate}
                  />
                ))}
              </tbody>
            </table>
          </div>
          {shown.length === 0 && <p class="loading">No session fits the filter.</p>}
        </>
      )}
    </>
  );
}

function SessionRow(props: {
  readonly session: Session;
  readonly cpu: number | undefined;
  readonly now: number;
  readonly operate: boolean;
}) {
  const { session, cpu, now, operate } = props;
  const running = session.state !== "Stopped";
  const { usage } = session;
  const disk = useDisk(session);
  return (
    <tr>
      <th scope="row" data-label="Session">
        <a class="clip mono" href={sessionHref(session)} title={session.sessionId}>
          {session.sessionId}
        </a>
      </th>
      <td data-label="State">
        <StateBadge session={session} />
      </td>
      <td data-label="Runtime">
        <span class="clip" title={session.runtimeArn}>
          {session.runtimeName}
        </span>
        {session.qualifier !== "DEFAULT" && <span class="muted"> / {session.qualifier}</span>}
      </td>
      <td class="num" data-label="Age">
        {since(session.createdAt, now)}
      </td>
      <td class="num" data-label="Idle left">
        {running ? until(session.idleStopsAt, now) : NOTHING}
      </td>
      <td class="num" data-label="Life left">
        {running ? until(session.lifetimeEndsAt, now) : NOTHING}
      </td>
      <td class="num" data-label="CPU">
        <span>
          {running ? percent(cpu) : NOTHING}
          {running && cpu !== undefined && <Meter share={cpu} label="CPU of one processor" />}
        </span>
      </td>
      <td class="num" data-label="Memory">
        {running ? bytes(usage?.memoryBytes) : NOTHING}
      </td>
      <td class="num" data-label="Disk">
        <span>
          {bytes(disk?.bytes)}
          <Meter share={diskShare(disk)} label="Disk of the session's limit" />
        </span>
      </td>
      <td class="num" data-label="Cost" title="The cost of this session is not known">
        {NOTHING}
      </td>
      <td class="actions">
        {operate && (
          <>
            <RowLink icon="terminal" label="New terminal" href={terminalHref(session)} />
            {running && <RowButton icon="stop" label="Stop" onClick={() => void stopAsked(session)} />}
            <RowButton icon="trash" label="Remove" danger onClick={() => void removeAsked(session)} />
          </>
        )}
      </td>
    </tr>
  );
}
