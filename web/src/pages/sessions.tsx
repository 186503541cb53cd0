/** Sessions, live: all of them, or one with everything that is known of it. */
import { costOf, costText, usageNotes, usedText } from "../api/cost";
import { diskShare, useDisk } from "../api/disk";
import { samples, sessions, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { sessionKey } from "../api/reducer";
import { currentCpu } from "../api/samples";
import { newTerminalHref, sessionHref, terminalHref } from "../api/sessions";
import type { Session } from "../api/types";
import { useNow } from "../components/clock";
import { bytes, NOTHING, parseTime, percent, since, until } from "../components/format";
import { Empty, Meter, PageHead, RowButton, RowLink } from "../components/parts";
import { type Column, matches, TableView } from "../components/table";
import { route } from "../router";
import { SessionPage } from "./session";
import { removeAsked, StateBadge, stopAsked } from "./session_actions";
import { abilities } from "./views";

/** The columns that sort. */
type SortColumn = "session" | "state" | "runtime" | "age" | "idle" | "life" | "cpu" | "memory";

/** Sessions that a text finds: in the id, the runtime, the endpoint or the state. */
export function filterSessions(all: readonly Session[], text: string, state: string): readonly Session[] {
  return all.filter((session) => {
    if (state === "running" && !isRunning(session)) return false;
    if (state === "stopped" && isRunning(session)) return false;
    return matches(text, [session.sessionId, session.runtimeName, session.qualifier, session.state]);
  });
}

/** What a session is sorted by. */
export function sortValue(
  session: Session,
  column: SortColumn,
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
      return session.usage?.memoryBytes ?? undefined;
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
  const { operate } = abilities(props.me.role);
  const all = sessions.value;
  return (
    <>
      <PageHead title="Sessions">
        {operate && (
          <a class="button primary" href={newTerminalHref()}>
            New terminal
          </a>
        )}
      </PageHead>
      <TableView
        of={all && [...all.values()]}
        noun="session"
        keyOf={sessionKey}
        columns={columns(useNow(), samples.value)}
        sortedBy="Age"
        filter={{
          hint: "Filter by id, runtime, endpoint",
          choice: {
            label: "State",
            options: [
              ["all", "All states"],
              ["running", "Running"],
              ["stopped", "Stopped"],
            ],
          },
          narrow: filterSessions,
        }}
        actions={(session) => operate && <Actions session={session} />}
        empty={
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
        }
      />
    </>
  );
}

/** The columns, as they are at a time and with the samples known by then. */
function columns(now: number, known: typeof samples.value): readonly Column<Session>[] {
  const cpuOf = (session: Session) =>
    isRunning(session) ? currentCpu(known.get(sessionKey(session)), now) : undefined;
  const by = (column: SortColumn) => (session: Session) => sortValue(session, column, cpuOf(session));
  /** A value that only what runs has. */
  const ofRunning = (value: (session: Session) => string) => (session: Session) =>
    isRunning(session) ? value(session) : NOTHING;
  return [
    {
      label: "Session",
      head: true,
      sortBy: by("session"),
      cell: (session) => (
        <a class="clip mono" href={sessionHref(session)} title={session.sessionId}>
          {session.sessionId}
        </a>
      ),
    },
    { label: "State", sortBy: by("state"), cell: (session) => <StateBadge session={session} /> },
    {
      label: "Runtime",
      sortBy: by("runtime"),
      cell: (session) => (
        <>
          <span class="clip" title={session.runtimeArn}>
            {session.runtimeName}
          </span>
          {session.qualifier !== "DEFAULT" && <span class="muted"> / {session.qualifier}</span>}
        </>
      ),
    },
    { label: "Age", look: "num", sortBy: by("age"), cell: (session) => since(session.createdAt, now) },
    {
      label: "Idle left",
      look: "num",
      sortBy: by("idle"),
      cell: ofRunning((session) => until(session.idleStopsAt, now)),
    },
    {
      label: "Life left",
      look: "num",
      sortBy: by("life"),
      cell: ofRunning((session) => until(session.lifetimeEndsAt, now)),
    },
    {
      label: "CPU",
      look: "num",
      sortBy: by("cpu"),
      cell: (session) => (
        <span>
          {percent(cpuOf(session))}
          <Meter share={cpuOf(session)} label="CPU of one processor" />
        </span>
      ),
    },
    {
      label: "Memory",
      look: "num",
      sortBy: by("memory"),
      cell: ofRunning((session) => bytes(session.usage?.memoryBytes ?? undefined)),
    },
    { label: "Disk", look: "num", cell: (session) => <DiskUse session={session} /> },
    {
      label: "Cost",
      look: "num",
      sortBy: costOf,
      title: ({ usage }) => usageNotes(usage) ?? usedText(usage),
      cell: ({ usage }) => costText(usage),
    },
  ];
}

/** How much of its disk a session uses, which is asked for when this is shown. */
function DiskUse(props: { readonly session: Session }) {
  const disk = useDisk(props.session);
  return (
    <span>
      {bytes(disk?.bytes)}
      <Meter share={diskShare(disk)} label="Disk of the session's limit" />
    </span>
  );
}

function Actions(props: { readonly session: Session }) {
  const { session } = props;
  return (
    <>
      <RowLink icon="terminal" label="New terminal" href={terminalHref(session)} />
      {isRunning(session) && <RowButton icon="stop" label="Stop" onClick={() => void stopAsked(session)} />}
      <RowButton icon="trash" label="Remove" danger onClick={() => void removeAsked(session)} />
    </>
  );
}

function isRunning(session: Session): boolean {
  return session.state !== "Stopped";
}
