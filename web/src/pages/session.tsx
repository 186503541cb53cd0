/** One session: what it is, what it uses, its shells, and the ways to its files and logs. */

import { costText, usageNotes, usedText } from "../api/cost";
import { diskShare, useDisk } from "../api/disk";
import { samples, sessions, shells } from "../api/events";
import type { SignedIn } from "../api/me";
import { sessionKey } from "../api/reducer";
import { currentCpu, type Samples } from "../api/samples";
import { filesHref, findSession, terminalHref } from "../api/sessions";
import type { Session } from "../api/types";
import { useNow } from "../components/clock";
import { bytes, NOTHING, percent, since, until, when } from "../components/format";
import { CopyButton, Empty, Facts, Loading, Meter, PageHead } from "../components/parts";
import { printable } from "../components/printable";
import { Sparkline } from "../components/sparkline";
import { href, navigate } from "../router";
import { removeAsked, StateBadge, stopAsked } from "./session_actions";
import { ShellTable } from "./shell_table";
import { abilities } from "./views";

/** The view of one session. */
export function SessionPage(props: { readonly me: SignedIn; readonly path: readonly string[] }) {
  const { me, path } = props;
  const all = sessions.value;
  const session = findSession(all, path);
  const crumbs = [["Sessions", href(["sessions"])]] as const;
  if (all === null) return <Loading />;
  if (session === undefined) {
    return (
      <>
        <PageHead title="Session" crumbs={crumbs} />
        <Empty title="This session is not there">
          <p class="muted">It was removed, or it belongs to a runtime that you may not see.</p>
        </Empty>
      </>
    );
  }
  const { operate } = abilities(me.role);
  const running = session.state !== "Stopped";
  const own = [...(shells.value?.values() ?? [])].filter(
    (shell) => sessionKey(shell) === sessionKey(session),
  );
  return (
    <>
      <PageHead title="Session" crumbs={crumbs}>
        {me.features.includes("files") && (
          <a class="button" href={filesHref(session)}>
            Files
          </a>
        )}
        {me.features.includes("logs") && (
          <a
            class="button"
            href={href(["logs", session.runtimeName, session.qualifier], { session: session.sessionId })}
          >
            Logs
          </a>
        )}
        {operate && (
          <>
            <a class="button primary" href={terminalHref(session)}>
              New terminal
            </a>
            {running && (
              <button type="button" onClick={() => void stopAsked(session)}>
                Stop
              </button>
            )}
            <button
              type="button"
              class="danger"
              onClick={async () => {
                if (await removeAsked(session)) navigate(href(["sessions"]));
              }}
            >
              Remove
            </button>
          </>
        )}
      </PageHead>
      <div class="grid">
        <About session={session} />
        <Use session={session} samples={samples.value.get(sessionKey(session)) ?? []} />
      </div>
      {session.degraded !== undefined && session.degraded.length > 0 && (
        <div class="notice warn">
          <h2>What does not hold on this machine</h2>
          <ul>
            {session.degraded.map((line) => (
              <li key={line}>{printable(line)}</li>
            ))}
          </ul>
        </div>
      )}
      <h2>Shells</h2>
      {own.length === 0 ? (
        <Empty title="No shells" commands={[`clamshell exec --it --session-id ${session.sessionId}`]}>
          <p class="muted">Open a terminal here, or from a command line:</p>
        </Empty>
      ) : (
        <ShellTable shells={own} operate={operate} />
      )}
    </>
  );
}

function About(props: { readonly session: Session }) {
  const { session } = props;
  const now = useNow();
  const running = session.state !== "Stopped";
  return (
    <section class="card" aria-label="About">
      <Facts
        of={[
          ["State", <StateBadge key="state" session={session} />],
          [
            "Id",
            <span key="id" class="row nowrap-row">
              <span class="mono grow">{session.sessionId}</span>
              <CopyButton text={session.sessionId} />
            </span>,
          ],
          [
            "Runtime",
            <a key="runtime" href={href(["runtimes", session.runtimeArn.split("/").at(-1) ?? ""])}>
              {session.runtimeName}
            </a>,
          ],
          ["Version, endpoint", `${session.runtimeVersion}, ${session.qualifier}`],
          ["Driver", session.driver],
          ["Created", `${when(session.createdAt)} (${since(session.createdAt, now)} ago)`],
          ["Last activity", `${since(session.lastActivityAt, now)} ago`],
          ["Idle left", running ? until(session.idleStopsAt, now) : undefined],
          ["Life left", running ? until(session.lifetimeEndsAt, now) : undefined],
          [
            "Stopped",
            session.stoppedAt === undefined
              ? undefined
              : `${when(session.stoppedAt)}, ${session.stopReason ?? ""}`,
          ],
          [
            "Storage is removed",
            session.storageRemovedAt === undefined ? undefined : when(session.storageRemovedAt),
          ],
        ]}
      />
    </section>
  );
}

function Use(props: { readonly session: Session; readonly samples: Samples }) {
  const { session } = props;
  const { usage } = session;
  const running = session.state !== "Stopped";
  const history = running ? props.samples : [];
  const cpu = currentCpu(history, useNow());
  const disk = useDisk(session);
  const diskFacts = (
    <span>
      {bytes(disk?.bytes)} {disk?.limit ? `of ${bytes(disk.limit)}` : ""}
      <Meter share={diskShare(disk)} label="Disk of the session's limit" />
      {disk?.overLimit === true && <span class="error-text"> above the limit</span>}
    </span>
  );
  return (
    <section class="card" aria-label="Use">
      <Facts
        of={[
          ...(running
            ? ([
                ["CPU", `${percent(cpu)} of one processor`],
                ["Memory", bytes(usage?.memoryBytes ?? undefined)],
                ["Processes", usage?.pids == null ? NOTHING : String(usage.pids)],
              ] as const)
            : ([["CPU, memory", "none: the session is stopped"]] as const)),
          ["Disk", diskFacts],
          ["Used in all", usedText(usage)],
          ["Cost", costText(usage)],
          ["Note", usageNotes(usage)],
        ]}
      />
      {history.length > 1 && (
        <div class="sparks">
          <figure>
            <Sparkline
              values={history.map((sample) => sample.cpu)}
              most={0.1}
              label={`CPU, now ${percent(cpu)} of one processor`}
            />
            <figcaption>CPU</figcaption>
          </figure>
          <figure>
            <Sparkline
              values={history.map((sample) => sample.memoryBytes)}
              most={1}
              label={`Memory, now ${bytes(usage?.memoryBytes ?? undefined)}`}
            />
            <figcaption>Memory</figcaption>
          </figure>
        </div>
      )}
    </section>
  );
}
