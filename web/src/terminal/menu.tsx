/** Where a new shell can be started, and which shells run without being shown here. */
import { useEffect, useState } from "preact/hooks";
import type { SignedIn } from "../api/me";
import type { Session, Shell } from "../api/types";
import { ask, Dialog } from "../components/dialog";
import { since } from "../components/format";
import { attempt, explain } from "../components/toast";
import { focusSoon, newShell, panel, refreshShells, shortId } from "./actions";
import { closeShell, listRuntimes, listSessions, listShells, type Runtime, stopSession } from "./api";
import { findShell } from "./layout";
import { cleanTitle } from "./sanitize";
import { layout, openShell } from "./store";

/** A session that a shell can be started in. */
type Place = Pick<Session, "runtimeArn" | "runtimeName" | "qualifier" | "sessionId">;

interface Running {
  readonly shells: readonly Shell[];
  readonly sessions: readonly Place[];
  readonly runtimes: readonly Runtime[];
}

/** Sessions that shells run in, each once. */
export function sessionsOf(shells: readonly Shell[]): readonly Place[] {
  const running = shells.filter((shell) => shell.state !== "Ended");
  return [...new Map(running.map((shell) => [shell.sessionId, shell])).values()];
}

async function lookAround(me: SignedIn): Promise<Running> {
  if (me.mode === "web") {
    // Sessions are known there by their shells alone, and there is one runtime.
    const shells = await refreshShells();
    return { shells, sessions: sessionsOf(shells), runtimes: [] };
  }
  // Whoever may not list runtimes or sessions still gets the rest.
  const [shells, sessions, runtimes] = await Promise.all([
    listShells(),
    me.features.includes("sessions") ? listSessions() : [],
    me.features.includes("runtimes") ? listRuntimes().catch(() => []) : [],
  ]);
  return { shells, sessions: sessions.filter((session) => session.state !== "Stopped"), runtimes };
}

export function Menu(props: { readonly me: SignedIn; readonly onClose: () => void }) {
  const [running, setRunning] = useState<Running | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const canWrite = props.me.role !== "viewer";
  const load = () =>
    lookAround(props.me).then(
      (found) => {
        setRunning(found);
        setFailure(null);
      },
      (cause: unknown) => setFailure(explain(cause)),
    );
  useEffect(() => void load(), []);
  return (
    <Dialog title="Sessions and running shells" onClose={props.onClose}>
      {failure !== null && (
        <p role="alert" class="error-text">
          {failure}
        </p>
      )}
      {running === null && failure === null && (
        <p class="loading" role="status">
          Loading…
        </p>
      )}
      {running && <Shells shells={running.shells} canWrite={canWrite} onEnd={load} />}
      {running && canWrite && (
        <Sessions sessions={running.sessions} canStop={props.me.mode === "web"} onStop={load} />
      )}
      {running && canWrite && <Runtimes runtimes={running.runtimes} mode={props.me.mode} />}
    </Dialog>
  );
}

function Shells(props: {
  readonly shells: readonly Shell[];
  readonly canWrite: boolean;
  readonly onEnd: () => void;
}) {
  const rest = props.shells
    .filter(
      (shell) =>
        shell.state !== "Ended" &&
        !findShell(layout.value, { session: shell.sessionId, shell: shell.shellId }),
    )
    .sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  const show = (shell: Shell, access: "write" | "watch") => {
    openShell({
      runtime: shell.runtimeArn,
      qualifier: shell.qualifier,
      session: shell.sessionId,
      shell: shell.shellId,
      access,
    });
    panel.value = "none";
    focusSoon();
  };
  const end = async (shell: Shell) => {
    const isSure = await ask({
      title: "End this shell?",
      text: `The programs in ${nameOf(shell)} are ended.`,
      action: "End the shell",
      danger: true,
    });
    if (!isSure) return;
    const { runtimeArn: runtime, qualifier, sessionId: session, shellId } = shell;
    const work = () => closeShell({ runtime, qualifier, session, shell: shellId });
    if (await attempt(work, "The shell was ended")) props.onEnd();
  };
  return (
    <section class="term-menu">
      <h3>Shells that run and are not shown here</h3>
      {rest.length === 0 && <p class="muted">There are none.</p>}
      <ul>
        {rest.map((shell) => (
          <li key={`${shell.sessionId}/${shell.shellId}`}>
            <span class="grow">
              <b>{nameOf(shell)}</b>{" "}
              <span class="muted small">
                {shell.runtimeName} · {shortId(shell.sessionId)} · {shell.state.toLowerCase()} · started{" "}
                {since(shell.createdAt, Date.now())} ago
              </span>
            </span>
            {props.canWrite && (
              <button type="button" aria-label={`Open ${nameOf(shell)}`} onClick={() => show(shell, "write")}>
                Open
              </button>
            )}
            <button type="button" aria-label={`Watch ${nameOf(shell)}`} onClick={() => show(shell, "watch")}>
              Watch
            </button>
            {props.canWrite && (
              <button
                type="button"
                class="danger"
                aria-label={`End ${nameOf(shell)}`}
                onClick={() => void end(shell)}
              >
                End
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** What a shell of the list is called. */
function nameOf(shell: Shell): string {
  return cleanTitle(shell.title ?? shell.programTitle ?? "") || shortId(shell.shellId);
}

function Sessions(props: {
  readonly sessions: readonly Place[];
  /** Where no page of sessions has it, a session is stopped here. */
  readonly canStop: boolean;
  readonly onStop: () => void;
}) {
  if (props.sessions.length === 0) return null;
  const stop = async (session: Place) => {
    const isSure = await ask({
      title: "Stop this session?",
      text: "All its shells and the programs in them are ended.",
      action: "Stop the session",
      danger: true,
    });
    if (!isSure) return;
    const { runtimeArn: runtime, qualifier, sessionId } = session;
    const work = () => stopSession({ runtime, qualifier, session: sessionId });
    if (await attempt(work, "The session was stopped")) props.onStop();
  };
  return (
    <section class="term-menu">
      <h3>New shell in a session</h3>
      <ul>
        {props.sessions.map((session) => (
          <li key={session.sessionId}>
            <span class="grow">
              {session.runtimeName} <span class="muted small">{shortId(session.sessionId)}</span>
            </span>
            <button
              type="button"
              aria-label={`New shell in session ${session.sessionId}`}
              onClick={() =>
                newShell({
                  runtime: session.runtimeArn,
                  qualifier: session.qualifier,
                  session: session.sessionId,
                })
              }
            >
              New shell
            </button>
            {props.canStop && (
              <button
                type="button"
                class="danger"
                aria-label={`Stop session ${session.sessionId}`}
                onClick={() => void stop(session)}
              >
                Stop
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Runtimes(props: { readonly runtimes: readonly Runtime[]; readonly mode: SignedIn["mode"] }) {
  const ofWeb = props.mode === "web";
  const only = ofWeb ? "The runtime of this web terminal" : "default";
  const shown: readonly Runtime[] =
    props.runtimes.length > 0 ? props.runtimes : [{ agentRuntimeArn: "default", agentRuntimeName: only }];
  return (
    <section class="term-menu">
      <h3>{ofWeb ? "New session" : "New session of a runtime"}</h3>
      <ul>
        {shown.map((runtime) => (
          <li key={runtime.agentRuntimeArn}>
            <span class="grow">{runtime.agentRuntimeName}</span>
            <button
              type="button"
              aria-label={`New session of ${runtime.agentRuntimeName}`}
              onClick={() => newShell({ runtime: runtime.agentRuntimeArn, qualifier: "DEFAULT" })}
            >
              New session
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
