/** Files of a session's workspace, also while it is stopped. */
import { sessions, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { sessionKey } from "../api/reducer";
import { filesHref, findSession, newTerminalHref } from "../api/sessions";
import { when } from "../components/format";
import { Empty, Loading, PageHead } from "../components/parts";
import { TableView } from "../components/table";
import { href, route } from "../router";
import { Folder } from "./files/folder";
import { StateBadge } from "./session_actions";
import { abilities } from "./views";

/** The page. */
export default function Files(props: { readonly me: SignedIn }) {
  useTopics("sessions");
  const { path, query } = route.value;
  if (path.length < 4) return <Choose />;
  const session = findSession(sessions.value, path);
  if (sessions.value === null) return <Loading />;
  if (session === undefined) {
    return (
      <Empty title="This session is not there">
        <p class="muted">It was removed, and its files with it.</p>
        <a class="button" href={href(["files"])}>
          To the sessions with files
        </a>
      </Empty>
    );
  }
  const folder = query.get("path") ?? "/";
  return (
    <Folder
      key={session.sessionId}
      session={session}
      folder={folder}
      write={abilities(props.me.role).operate}
    />
  );
}

function Choose() {
  const all = sessions.value;
  return (
    <>
      <PageHead title="Files" />
      <p class="muted">Each session has a workspace of its own. Whose files?</p>
      <TableView
        of={all && [...all.values()]}
        noun="session"
        keyOf={sessionKey}
        columns={[
          {
            label: "Session",
            head: true,
            cell: (session) => (
              <a class="clip mono" href={filesHref(session)}>
                {session.sessionId}
              </a>
            ),
          },
          { label: "Runtime", cell: (session) => session.runtimeName },
          { label: "State", cell: (session) => <StateBadge session={session} /> },
          { label: "Last activity", look: "nowrap", cell: (session) => when(session.lastActivityAt) },
        ]}
        empty={
          <Empty title="No sessions yet" commands={["clamshell exec --it"]}>
            <p class="muted">
              <a href={newTerminalHref()}>Open a terminal</a> to start one, or use the command line:
            </p>
          </Empty>
        }
      />
    </>
  );
}
