/** The view of the terminals: tabs, grid and panels; for a share link, the one shell that it shows. */
import { useEffect, useState } from "preact/hooks";
import { shells, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { explain } from "../components/toast";
import { href, navigate, route } from "../router";
import { focusSoon, learnName, newShell, refreshShells } from "./actions";
import { sharedShell, showShell } from "./api";
import { layout, newId, newSessionId, openShell, useOwner, useShare, whenStarted } from "./store";
import "./terminal.css";
import { Workspace } from "./workspace";

/** The whole terminal view, for somebody signed in or for the holder of a link. */
export function TerminalView(props: { readonly me: SignedIn | null; readonly share?: string }) {
  if (props.me) return <OwnTerminals me={props.me} />;
  return props.share === undefined ? null : <SharedTerminal token={props.share} />;
}

export default TerminalView;

function OwnTerminals(props: { readonly me: SignedIn }) {
  const { me } = props;
  useTopics("shells", "sessions");
  useOwner(me.userName);
  const { query } = route.value;
  useEffect(() => {
    // A link to a terminal is followed once; a reload brings the layout, not another shell.
    if (!query.has("session") && !query.has("runtime")) return;
    const at = {
      runtime: query.get("runtime") ?? "default",
      qualifier: query.get("qualifier") ?? "DEFAULT",
      session: query.get("session") ?? newSessionId(),
    };
    const shell = query.get("shell");
    const access = me.role === "viewer" || query.get("access") === "watch" ? "watch" : "write";
    if (shell !== null) openShell({ ...at, shell, access });
    else if (me.role !== "viewer") newShell(at);
    navigate(href(["terminal"]), true);
    focusSoon();
  }, [query]);
  useEffect(focusSoon, []);
  useEffect(() => {
    // In front of another endpoint nothing is pushed, so names are asked for.
    if (me.mode === "web") refreshShells().catch(() => undefined);
  }, [me.userName, me.mode]);
  const running = shells.value;
  useEffect(() => {
    for (const shell of running?.values() ?? []) {
      if (shell.title) learnName(shell.shellId, shell.title, shell.isDefaultTitle);
    }
  }, [running]);
  useEffect(
    () =>
      whenStarted((pane) => {
        // The server has given it a name, which is not pushed to every page.
        showShell(pane).then(
          (shell) => shell.title && learnName(shell.shellId, shell.title, shell.isDefaultTitle),
          () => undefined,
        );
      }),
    [],
  );
  return <Workspace me={me} />;
}

function SharedTerminal(props: { readonly token: string }) {
  const [failure, setFailure] = useState<string | null>(null);
  useEffect(() => {
    sharedShell(props.token).then(
      (shared) => {
        useShare(props.token, {
          id: newId(),
          runtime: shared.runtimeArn,
          qualifier: shared.qualifier,
          session: shared.sessionId,
          shell: shared.shellId,
          access: shared.access,
        });
        if (shared.title) learnName(shared.shellId, shared.title, shared.isDefaultTitle);
      },
      (cause: unknown) => setFailure(explain(cause) ?? "The link could not be read"),
    );
  }, [props.token]);
  if (failure !== null) {
    return (
      <main class="login">
        <div class="login-card">
          <h1>This link does not work</h1>
          <p role="alert">{failure}.</p>
          <p class="muted">Ask whoever sent it for another one.</p>
        </div>
      </main>
    );
  }
  if (layout.value.tabs.length === 0)
    return (
      <p class="loading" role="status">
        Opening the shared terminal…
      </p>
    );
  return (
    <main class="term-shared">
      <Workspace me={null} />
    </main>
  );
}
