/** Shells as rows of a table, running and ended. */
import { shellKey } from "../api/reducer";
import { closeShell, recordingHref, sessionHref, sessionPath, terminalHref } from "../api/sessions";
import type { Shell } from "../api/types";
import { useNow } from "../components/clock";
import { ask } from "../components/dialog";
import { bytes, NOTHING, since, when } from "../components/format";
import { Badge, RowButton, RowLink } from "../components/parts";
import { printable } from "../components/printable";
import { type Column, Table } from "../components/table";
import { attempt } from "../components/toast";

/** What people call a shell: the name they gave it, that of its program, its command, or its id. */
export function shellTitle(shell: Shell): string {
  const title = shell.title ?? shell.programTitle ?? shell.command.join(" ");
  return printable(title === "" ? shell.shellId : title);
}

/** How a shell is, in words. */
export function shellState(shell: Shell): string {
  if (shell.state !== "Ended") return shell.state;
  if (shell.exitCode !== undefined) return `Ended, exit code ${shell.exitCode}`;
  if (shell.signal !== undefined) return `Ended by ${shell.signal}`;
  return shell.endReason === "SessionEnded" ? "Ended with its session" : "Ended";
}

/** Who is connected, in words. */
export function connected(shell: Shell): string {
  const parts = [];
  if (shell.writers > 0) parts.push(`${shell.writers} writing`);
  if (shell.watchers > 0) parts.push(`${shell.watchers} watching`);
  return parts.join(", ") || NOTHING;
}

/** The address that saves the recording of a shell. */
export function exportPath(shell: Shell): string {
  return sessionPath(shell, ["shells", shell.shellId, "export"]);
}

/** Shells by their beginning, the last one first. */
export function newestFirst(shells: readonly Shell[]): readonly Shell[] {
  return [...shells].sort((a, b) => b.createdAt.localeCompare(a.createdAt));
}

/** The shells of one session. */
export function ShellTable(props: { readonly shells: readonly Shell[]; readonly operate: boolean }) {
  return (
    <div class="table-wrap">
      <Table
        of={newestFirst(props.shells)}
        keyOf={shellKey}
        columns={shellColumns(useNow()).filter(({ label }) => label !== "Session")}
        actions={(shell) => <ShellActions shell={shell} operate={props.operate} />}
      />
    </div>
  );
}

/** What is told of a shell at a time. */
export function shellColumns(now: number): readonly Column<Shell>[] {
  return [
    {
      label: "Shell",
      head: true,
      cell: (shell) => (
        <a class="clip" href={recordingHref(shell)} title={shell.shellId}>
          {shellTitle(shell)}
        </a>
      ),
    },
    { label: "State", cell: (shell) => <Badge tone={shellTone(shell)} text={shellState(shell)} /> },
    {
      label: "Session",
      cell: (shell) => (
        <span>
          {shell.runtimeName}{" "}
          <a class="clip mono" href={sessionHref(shell)} title={shell.sessionId}>
            {shell.sessionId}
          </a>
        </span>
      ),
    },
    {
      label: "Started",
      look: "num",
      title: (shell) => when(shell.createdAt),
      cell: (shell) => `${since(shell.createdAt, now)} ago`,
    },
    {
      label: "Last output",
      look: "num",
      cell: ({ lastOutputAt }) => (lastOutputAt === undefined ? NOTHING : `${since(lastOutputAt, now)} ago`),
    },
    { label: "Connected", look: "nowrap", cell: connected },
    { label: "Recorded", look: "num", cell: (shell) => bytes(shell.endOffset - shell.startOffset) },
  ];
}

function shellTone(shell: Shell): "ok" | "danger" | undefined {
  if (shell.state === "Attached") return "ok";
  return shell.exitCode !== undefined && shell.exitCode !== 0 ? "danger" : undefined;
}

/** What can be done with a shell. */
export function ShellActions(props: { readonly shell: Shell; readonly operate: boolean }) {
  const { shell, operate } = props;
  const running = shell.state !== "Ended";
  const close = async () => {
    const sure = await ask({
      title: "Close the shell?",
      text: "Its programs end. Its recording stays.",
      action: "Close shell",
      danger: true,
    });
    if (sure) await attempt(() => closeShell(shell), "The shell was closed");
  };
  return (
    <>
      {running && (
        <RowLink
          icon={operate ? "terminal" : "eye"}
          label={operate ? "Open terminal" : "Watch"}
          href={terminalHref(shell, shell.shellId)}
        />
      )}
      <RowLink icon="play" label="Play recording" href={recordingHref(shell)} />
      <RowLink
        icon="download"
        label="Download recording"
        href={exportPath(shell)}
        download={`${shell.shellId}.cast`}
      />
      {running && operate && (
        <RowButton icon="close" label="Close shell" danger onClick={() => void close()} />
      )}
    </>
  );
}
