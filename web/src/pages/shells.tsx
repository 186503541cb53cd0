/** Shells of all sessions, running and ended, and their recordings. */
import { useEffect, useState } from "preact/hooks";
import { send } from "../api/client";
import { shells, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { shellKey } from "../api/reducer";
import { newTerminalHref, sessionHref, terminalHref } from "../api/sessions";
import type { Shell } from "../api/types";
import { useNow } from "../components/clock";
import { bytes } from "../components/format";
import { lazy } from "../components/lazy";
import { Empty, Failed, Loading, PageHead } from "../components/parts";
import { matches, TableView } from "../components/table";
import { explain } from "../components/toast";
import { href, route } from "../router";
import { type Cast, parseCast } from "./recording/cast";
import { exportPath, newestFirst, ShellActions, shellColumns, shellState, shellTitle } from "./shell_table";
import { abilities } from "./views";

const Player = lazy(() => import("./recording/player"));

/** A longer recording is for a player on the disk: here all of it would lie in memory, twice. */
const CAST_BYTES_MAX = 64 * 1024 * 1024;

/** The page. */
export default function Shells(props: { readonly me: SignedIn }) {
  useTopics("shells");
  const { path } = route.value;
  if (path.length >= 5) return <Recording path={path} />;
  return <ShellList me={props.me} />;
}

function ShellList(props: { readonly me: SignedIn }) {
  const all = shells.value;
  const { operate } = abilities(props.me.role);
  return (
    <>
      <PageHead title="Shells and recordings" />
      <TableView
        of={all && newestFirst([...all.values()])}
        noun="shell"
        keyOf={shellKey}
        columns={shellColumns(useNow())}
        filter={{
          hint: "Filter by name, session, runtime",
          choice: {
            label: "State",
            options: [
              ["all", "All"],
              ["running", "Running"],
              ["ended", "Ended"],
            ],
          },
          narrow: filterShells,
        }}
        actions={(shell) => <ShellActions shell={shell} operate={operate} />}
        empty={
          <Empty title="No shells yet" commands={["clamshell exec --it"]}>
            <p class="muted">
              Every terminal is recorded here. <a href={newTerminalHref()}>Open one</a>, or use the command
              line:
            </p>
          </Empty>
        }
      />
    </>
  );
}

/** Shells that a text finds: in the name, the ids or the runtime. */
export function filterShells(all: readonly Shell[], text: string, state: string): readonly Shell[] {
  return all.filter((shell) => {
    if (state === "running" && shell.state === "Ended") return false;
    if (state === "ended" && shell.state !== "Ended") return false;
    return matches(text, [shellTitle(shell), shell.shellId, shell.sessionId, shell.runtimeName]);
  });
}

/** Finds a shell by the segments of an address. */
export function findShell(
  all: ReadonlyMap<string, Shell> | null,
  path: readonly string[],
): Shell | undefined {
  const [, runtime, qualifier, sessionId, shellId] = path;
  for (const shell of all?.values() ?? []) {
    if (shell.shellId !== shellId || shell.sessionId !== sessionId || shell.qualifier !== qualifier) continue;
    if (shell.runtimeName === runtime || shell.runtimeArn === runtime) return shell;
  }
  return undefined;
}

function Recording(props: { readonly path: readonly string[] }) {
  const shell = findShell(shells.value, props.path);
  const crumbs = [["Shells and recordings", href(["shells"])]] as const;
  if (shells.value === null) return <Loading />;
  if (shell === undefined) {
    return (
      <>
        <PageHead title="Recording" crumbs={crumbs} />
        <Empty title="This shell is not there">
          <p class="muted">Its session was removed, and its recording with it.</p>
        </Empty>
      </>
    );
  }
  return (
    <>
      <PageHead title={shellTitle(shell)} crumbs={crumbs}>
        <span class="muted">{shellState(shell)}</span>
        <a class="button" href={sessionHref(shell)}>
          Session
        </a>
        {shell.state !== "Ended" && (
          <a class="button" href={terminalHref(shell, shell.shellId)}>
            Open terminal
          </a>
        )}
        <a class="button" href={exportPath(shell)} download={`${shell.shellId}.cast`}>
          Download
        </a>
      </PageHead>
      <Played key={shell.shellId} shell={shell} />
    </>
  );
}

/** Why a recording is not played here. */
function tooLarge(): string {
  return `The recording is larger than ${bytes(CAST_BYTES_MAX)}: download it to play it`;
}

/** Loads the recording as it is now; a running shell's later output is loaded on demand. */
function Played(props: { readonly shell: Shell }) {
  const [cast, setCast] = useState<Cast | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [loaded, setLoaded] = useState(0);
  const [round, setRound] = useState(0);
  const path = exportPath(props.shell);
  useEffect(() => {
    // In a recording each byte of output takes one or more: there is no need to try.
    if (props.shell.endOffset - props.shell.startOffset > CAST_BYTES_MAX) {
      setFailure(tooLarge());
      return;
    }
    const stop = new AbortController();
    setFailure(null);
    fetchText(path, setLoaded, stop.signal).then(
      (text) => {
        const found = parseCast(text);
        if (found === null) setFailure("The server sent no recording");
        else setCast(found);
      },
      (cause: unknown) => !stop.signal.aborted && setFailure(explain(cause)),
    );
    return () => stop.abort();
  }, [path, round]);
  if (failure !== null) return <Failed text={failure} onRetry={() => setRound(round + 1)} />;
  if (cast === null) {
    return (
      <p class="loading" role="status">
        Loading {bytes(loaded)}…
      </p>
    );
  }
  return (
    <>
      <Player cast={cast} />
      {props.shell.state !== "Ended" && (
        <p>
          <button type="button" onClick={() => setRound(round + 1)}>
            Load what came since
          </button>
        </p>
      )}
    </>
  );
}

/** Gets the text of a recording. */
async function fetchText(
  path: string,
  onProgress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<string> {
  const response = await send("GET", path, { signal });
  const reader = response.body?.getReader();
  if (reader === undefined) return response.text();
  const decoder = new TextDecoder();
  let [text, total] = ["", 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    total += value.byteLength;
    if (total > CAST_BYTES_MAX) {
      await reader.cancel();
      throw new Error(tooLarge());
    }
    onProgress(total);
    text += decoder.decode(value, { stream: true });
  }
}
