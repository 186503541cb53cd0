/** A table of shells, running and ended. */
import { shellKey } from "../api/reducer";
import { closeShell, recordingHref, sessionHref, sessionPath, terminalHref } from "../api/sessions";
import type { Shell } from "../api/types";
import { useNow } from "../components/clock";
import { ask } from "../components/dialog";
import { bytes, NOTHING, since, when } from "../components/format";
import { Badge, RowButton, RowLink } from "../components/parts";
import { printable } from "../components/printable";
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

/** The table. */
export function ShellTable(props: {
  readonly shells: readonly Shell[];
  readonly operate: boolean;
  /** The session is known: its column is left out. */
  readonly inSession?: boolean;
}) {
  const now = useNow();
  const newestFirst = [...props.shells].sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  return (
    <div class="table-wrap">
      <table class="cards">
        <thead>
          <tr>
            <th scope="col">Shell</th>
            <th scope="col">State</th>
            {props.inSession !== true && <th scope="col">Session</th>}
            <th scope="col" class="num">
              Started
            </th>
            <th scope="col" class="num">
              Last output
            </th>
            <th scope="col">Connected</th>
            <th scope="col" class="num">
              Recorded
            </th>
            <th scope="col">
              <span class="visually-hidden">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {newestFirst.map((shell) => (
            <Row
              key={shellKey(shell)}
              shell={shell}
              now={now}
              operate={props.operate}
              inSession={props.inSession === true}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row(props: {
  readonly shell: Shell;
  readonly now: number;
  readonly operate: boolean;
  readonly inSession: boolean;
}) {
  const { shell, now, operate } = props;
  const running = shell.state !== "Ended";
  const failed = shell.exitCode !== undefined && shell.exitCode !== 0;
  const tone = shell.state === "Attached" ? "ok" : failed ? "danger" : undefined;
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
    <tr>
      <th scope="row" data-label="Shell">
        <a class="clip" href={recordingHref(shell)} title={shell.shellId}>
          {shellTitle(shell)}
        </a>
      </th>
      <td data-label="State">
        <Badge tone={tone} text={shellState(shell)} />
      </td>
      {!props.inSession && (
        <td data-label="Session">
          <span>
            {shell.runtimeName}{" "}
            <a class="clip mono" href={sessionHref(shell)} title={shell.sessionId}>
              {shell.sessionId}
            </a>
          </span>
        </td>
      )}
      <td class="num" data-label="Started" title={when(shell.createdAt)}>
        {since(shell.createdAt, now)} ago
      </td>
      <td class="num" data-label="Last output">
        {shell.lastOutputAt === undefined ? NOTHING : `${since(shell.lastOutputAt, now)} ago`}
      </td>
      <td class="nowrap" data-label="Connected">
        {connected(shell)}
      </td>
      <td class="num" data-label="Recorded">
        {bytes(shell.endOffset - shell.startOffset)}
      </td>
      <td class="actions">
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
      </td>
    </tr>
  );
}
