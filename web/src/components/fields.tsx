/** Fields of forms whose rules the server knows: it says which value breaks which rule, and the field shows it. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/client";
import { printable } from "./printable";
import { explain } from "./toast";

/** What is wrong with what was sent: by field, and what belongs to none. */
export interface Problem {
  readonly form: string | null;
  readonly fields: Readonly<Record<string, string>>;
}

/** Nothing is wrong. */
export const NO_PROBLEM: Problem = { form: null, fields: {} };

/** Sorts what the server said to the fields of a form; `fieldOf` knows them by the names of the call's members. */
export function problemOf(cause: unknown, fieldOf: (member: string) => string | undefined): Problem {
  const text = explain(cause);
  if (text === null) return NO_PROBLEM;
  const fields: Record<string, string> = {};
  const others: string[] = [];
  for (const { name, message } of cause instanceof ApiError ? cause.fields : []) {
    const field = fieldOf(name);
    if (field === undefined) others.push(`${name}: ${message}`);
    else fields[field] = field in fields ? `${fields[field]}; ${message}` : message;
  }
  const known = Object.keys(fields).length > 0;
  return { form: others.length > 0 ? others.join("; ") : known ? null : text, fields };
}

/** A form that sends what it has, and shows what is wrong with it. */
export function Form(props: {
  readonly action: string;
  readonly problem: Problem;
  readonly onCancel: () => void;
  readonly onSubmit: (form: FormData) => Promise<void>;
  /** Beside the buttons. */
  readonly aside?: ComponentChildren;
  readonly children: ComponentChildren;
}) {
  const { problem } = props;
  const element = useRef<HTMLFormElement>(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => element.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus(), [problem]);
  return (
    <form
      ref={element}
      onSubmit={async (event) => {
        event.preventDefault();
        if (busy) return;
        setBusy(true);
        await props.onSubmit(new FormData(event.currentTarget)).finally(() => setBusy(false));
      }}
    >
      {props.children}
      {problem.form !== null && (
        <p class="notice danger" role="alert">
          {printable(problem.form)}
        </p>
      )}
      <div class="row end">
        {props.aside}
        <button type="button" onClick={props.onCancel}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={busy}>
          {props.action}
        </button>
      </div>
    </form>
  );
}

/** What a control of a field is given. */
export interface ControlProps {
  readonly id: string;
  readonly name: string;
  readonly "aria-describedby": string;
  readonly "aria-invalid": boolean;
}

/** A control with its name, a word of help, and what is wrong with its value. */
export function Field(props: {
  readonly name: string;
  readonly label: string;
  readonly hint?: ComponentChildren;
  readonly problem: Problem;
  readonly control: (control: ControlProps) => ComponentChildren;
}) {
  const { name, problem } = props;
  const id = `field-${name}`;
  const error = problem.fields[name];
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.control({
        id,
        name,
        "aria-describedby": `${id}-about`,
        "aria-invalid": error !== undefined,
      })}
      <small id={`${id}-about`}>
        {error !== undefined && (
          <span class="error-text" role="alert">
            {printable(error)}{" "}
          </span>
        )}
        <span class="muted">{props.hint}</span>
      </small>
    </div>
  );
}
