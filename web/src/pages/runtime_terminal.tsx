/** What new terminals of a runtime start: shown to all who see the runtime, and changed by those who may. */
import { useState } from "preact/hooks";
import { listSecretNames, putTerminal, removeTerminal } from "../api/runtime_changes";
import type { RuntimeDetail, TerminalSettings } from "../api/runtimes";
import { ask, Dialog } from "../components/dialog";
import { Field, Form, NO_PROBLEM, problemOf } from "../components/fields";
import { useLoad } from "../components/load";
import { Facts } from "../components/parts";
import { printable } from "../components/printable";
import { attempt, note } from "../components/toast";

/** How a line for the shell is started; `clamshell runtime terminal --command` does the same. */
const SHELL = ["/bin/bash", "-lc"] as const;

/** A command as a person would type it. */
export function commandText(words: readonly string[]): string {
  const quoted = words.map((word) =>
    /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
  );
  return printable(quoted.join(" "));
}

/** The line for the shell that a command is; null when it is started in another way. */
export function shellLine(command: readonly string[]): string | null {
  const [program, flag, line, ...more] = command;
  const isLine = program === SHELL[0] && flag === SHELL[1] && line !== undefined && more.length === 0;
  return isLine ? line : null;
}

/** The settings that a filled form stands for. */
export function settingsOf(form: FormData): TerminalSettings {
  const command = String(form.get("command") ?? "");
  const folder = String(form.get("workingDirectory") ?? "").trim();
  return {
    command:
      form.get("kind") === "words" ? command.split("\n").filter((word) => word !== "") : [...SHELL, command],
    secrets: form.getAll("secret").map(String),
    ...(folder === "" ? {} : { workingDirectory: folder }),
    appliesTo: form.get("appliesTo") === "all" ? "all" : "attach",
  };
}

const FIELDS = ["command", "secrets", "workingDirectory", "appliesTo"];
const fieldOf = (member: string) => FIELDS.find((field) => member === field);

/** What is set, and the button to change it. */
export function RuntimeTerminal(props: {
  readonly runtime: RuntimeDetail;
  readonly settings: TerminalSettings | null | undefined;
  readonly administer: boolean;
  readonly onChanged: () => void;
}) {
  const { runtime, settings } = props;
  const [editing, setEditing] = useState(false);
  return (
    <>
      <div class="row">
        <h2 class="grow">Terminal</h2>
        {props.administer && settings !== undefined && (
          <button type="button" class="small" onClick={() => setEditing(true)}>
            Edit terminal
          </button>
        )}
      </div>
      {settings ? (
        <Facts
          of={[
            ["Starts", <code key="command">{commandText(settings.command)}</code>],
            ["Secrets", settings.secrets?.join(", ")],
            ["Folder", settings.workingDirectory],
            ["Clients of AWS", settings.appliesTo === "all" ? "start it as well" : undefined],
          ]}
        />
      ) : (
        <>
          <p class="muted">A new terminal starts a login shell. To start an agent instead:</p>
          <pre>clamshell runtime terminal {runtime.agentRuntimeName} --command 'exec claude'</pre>
        </>
      )}
      {editing && (
        <EditTerminal
          id={runtime.agentRuntimeId}
          settings={settings ?? null}
          onClose={() => setEditing(false)}
          onChanged={() => {
            setEditing(false);
            props.onChanged();
          }}
        />
      )}
    </>
  );
}

function EditTerminal(props: {
  readonly id: string;
  readonly settings: TerminalSettings | null;
  readonly onClose: () => void;
  readonly onChanged: () => void;
}) {
  const { id, settings, onClose, onChanged } = props;
  const line = settings === null ? "" : shellLine(settings.command);
  const [kind, setKind] = useState(line === null ? "words" : "line");
  const [problem, setProblem] = useState(NO_PROBLEM);
  const known = useLoad((signal) => listSecretNames(signal), []);
  const chosen = settings?.secrets ?? [];
  // One that was removed since stays to be seen and given up.
  const names = [...new Set([...(known.value ?? []), ...chosen])];
  const save = async (form: FormData) => {
    try {
      await putTerminal(id, settingsOf(form));
      note("New terminals start the command");
      onChanged();
    } catch (cause) {
      setProblem(problemOf(cause, fieldOf));
    }
  };
  const remove = async () => {
    const sure = await ask({
      title: "Start the login shell again?",
      text: "The command and the choice of secrets go; the secrets themselves stay.",
      action: "Start the login shell",
      danger: true,
    });
    if (sure && (await attempt(() => removeTerminal(id), "New terminals start the login shell"))) onChanged();
  };
  return (
    <Dialog title="What new terminals start" onClose={onClose}>
      <Form
        action="Save"
        problem={problem}
        onCancel={onClose}
        onSubmit={save}
        aside={
          settings !== null && (
            <button type="button" class="danger" onClick={() => void remove()}>
              Login shell
            </button>
          )
        }
      >
        <Field
          name="command"
          label="Command"
          problem={problem}
          hint={
            kind === "line" ? (
              <>
                Secrets are files in the folder that <code>$CLAMSHELL_SECRETS</code> names.
              </>
            ) : (
              "The program and its arguments, one on each line."
            )
          }
          control={(control) => (
            <textarea
              {...control}
              rows={4}
              required
              spellcheck={false}
              placeholder={kind === "line" ? "exec claude" : "/usr/bin/claude"}
              defaultValue={line ?? settings?.command.join("\n") ?? ""}
            />
          )}
        />
        <Field
          name="kind"
          label="It is"
          problem={problem}
          control={(control) => (
            <select {...control} value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
              <option value="line">a line for the shell</option>
              <option value="words">a program and its arguments</option>
            </select>
          )}
        />
        <fieldset class="choices" aria-describedby="field-secrets-about">
          <legend class="label">Secrets that it may read</legend>
          {names.map((name) => (
            <label key={name} class="check">
              <input type="checkbox" name="secret" value={name} defaultChecked={chosen.includes(name)} />
              <span class="mono">{printable(name)}</span>
              {known.value !== undefined && !known.value.includes(name) && (
                <span class="error-text">is not there any more</span>
              )}
            </label>
          ))}
          <small id="field-secrets-about">
            {problem.fields["secrets"] !== undefined && (
              <span class="error-text" role="alert">
                {printable(problem.fields["secrets"])}{" "}
              </span>
            )}
            {known.failure !== null && <span class="error-text">{known.failure} </span>}
            <span class="muted">
              {names.length === 0 && known.value !== undefined && "There are none yet. "}
              <code>clamshell secrets set NAME</code> keeps one; no value is ever shown.
            </span>
          </small>
        </fieldset>
        <Field
          name="workingDirectory"
          label="Folder"
          hint="Where it starts; / unless given."
          problem={problem}
          control={(control) => (
            <input
              {...control}
              autocomplete="off"
              spellcheck={false}
              placeholder="/mnt/workspace"
              defaultValue={settings?.workingDirectory ?? ""}
            />
          )}
        />
        <Field
          name="appliesTo"
          label="For"
          problem={problem}
          control={(control) => (
            <select {...control} defaultValue={settings?.appliesTo ?? "attach"}>
              <option value="attach">terminals of this page and its API</option>
              <option value="all">terminals of AWS clients, too</option>
            </select>
          )}
        />
      </Form>
    </Dialog>
  );
}
