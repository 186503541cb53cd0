/** Where a new shell can be started, and which shells run without being shown here. */
import { useEffect, useState } from "preact/hooks";
import type { SignedIn } from "../api/me";
import type { Session, Shell } from "../api/types";
import { Dialog } from "../components/dialog";
import { explain } from "../components/toast";
import { focusSoon, newShell, panel, shortId } from "./actions";
import { listRuntimes, listSessions, listShells, type Runtime } from "./api";
import { findShell } from "./layout";
import { cleanTitle } from "./sanitize";
import { layout, openShell } from "./store";

interface Running {
  readonly shells: readonly Shell[];
  readonly sessions: readonly Session[];
  readonly runtimes: readonly Runtime[];
}

export function Menu(props: { readonly me: SignedIn; readonly onClose: () => void }) {
  const [running, setRunning] = useState<Running | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const canWrite = props.me.role !== "viewer";
  useEffect(() => {
    // Whoever may not list runtimes still gets the rest.
    Promise.all([listShells(), listSessions(), listRuntimes().catch(() => [])]).then(
      ([shells, sessions, runtimes]) => setRunning({ shells, sessions, runtimes }),
      (cause: unknown) => setFailure(explain(cause)),
    );
  }, []);
  return (
    <Dialog title="Sessions and running shells" onClose={props.onClose}>
      {failure !== null && (
        <p role="alert" class="error-text">
          {failure}
        </p>
      )}
      {running === null && failure === null && <p class="loading">Loading…</p>}
      {running && <Shells shells={running.shells} canWrite={canWrite} />}
      {running && canWrite && <Sessions sessions={running.sessions} />}
      {running && canWrite && <Runtimes runtimes={running.runtimes} />}
    </Dialog>
  );
}

function Shells(props: { readonly shells: readonly Shell[]; readonly canWrite: boolean }) {
  const rest = props.shells.filter(
    (shell) =>
      shell.state !== "Ended" && !findShell(layout.value, { session: shell.sessionId, shell: shell.shellId }),
  );
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
  return (
    <section class="term-menu">
      <h3>Shells that run and are not shown here</h3>
      {rest.length === 0 && <p class="muted">There are none.</p>}
      <ul>
        {rest.map((shell) => (
          <li key={`${shell.sessionId}/${shell.shellId}`}>
            <span class="grow">
              <b>{cleanTitle(shell.title ?? shell.programTitle ?? "") || shortId(shell.shellId)}</b>{" "}
              <span class="muted small">
                {shell.runtimeName} · {shortId(shell.sessionId)} · {shell.state.toLowerCase()}
              </span>
            </span>
            {props.canWrite && (
              <button type="button" onClick={() => show(shell, "write")}>
                Open
              </button>
            )}
            <button type="button" onClick={() => show(shell, "watch")}>
              Watch
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Sessions(props: { readonly sessions: readonly Session[] }) {
  const running = props.sessions.filter((session) => session.state !== "Stopped");
  if (running.length === 0) return null;
  return (
    <section class="term-menu">
      <h3>New shell in a session</h3>
      <ul>
        {running.map((session) => (
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
          </li>
        ))}
      </ul>
    </section>
  );
}

function Runtimes(props: { readonly runtimes: readonly Runtime[] }) {
  const shown: readonly Runtime[] =
    props.runtimes.length > 0
      ? props.runtimes
      : [{ agentRuntimeArn: "default", agentRuntimeName: "default" }];
  return (
    <section class="term-menu">
      <h3>New session of a runtime</h3>
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
