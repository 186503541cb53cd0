/** Dialogs: the browser's own element keeps the focus inside and closes on Escape. */
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

/** What has the keyboard when a dialog opens: the first of what it asks. */
const FIRST = "input, select, textarea, .dialog-body button";

/** A dialog that is open for as long as it is drawn. */
export function Dialog(props: {
  readonly title: string;
  readonly wide?: boolean;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const title = useId();
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    // The browser would take the first button, which closes the dialog.
    dialog?.querySelector<HTMLElement>(FIRST)?.focus();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      class={props.wide === true ? "wide" : undefined}
      aria-labelledby={title}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
    >
      <div class="head">
        <h2 id={title} class="grow">
          {props.title}
        </h2>
        <button type="button" class="plain small" aria-label="Close" onClick={props.onClose}>
          ×
        </button>
      </div>
      <div class="dialog-body">{props.children}</div>
    </dialog>
  );
}

/** A question before something happens that cannot be undone. */
export interface Question {
  readonly title: string;
  readonly text: string;
  /** What the button says. */
  readonly action: string;
  /** What must be typed before the button works. */
  readonly typed?: string;
  readonly danger?: boolean;
}

/** A question for a line of text. */
export interface Prompt {
  readonly title: string;
  readonly label: string;
  readonly action: string;
  readonly value?: string;
}

type Open =
  | { readonly kind: "question"; readonly of: Question; readonly answer: (yes: boolean) => void }
  | { readonly kind: "prompt"; readonly of: Prompt; readonly answer: (text: string | null) => void };

const open = signal<Open | null>(null);

/** Asks, and gives the answer; a question that is open already is answered with no. */
export function ask(of: Question): Promise<boolean> {
  dismiss();
  return new Promise((answer) => {
    open.value = { kind: "question", of, answer };
  });
}

/** Asks for a line of text; null when it was not given. */
export function prompt(of: Prompt): Promise<string | null> {
  dismiss();
  return new Promise((answer) => {
    open.value = { kind: "prompt", of, answer };
  });
}

function dismiss(): void {
  const was = open.value;
  open.value = null;
  if (was?.kind === "question") was.answer(false);
  if (was?.kind === "prompt") was.answer(null);
}

/** Where questions appear. */
export function Questions() {
  const current = open.value;
  if (current === null) return null;
  return (
    <Dialog key={current.of.title} title={current.of.title} onClose={dismiss}>
      {current.kind === "question" ? (
        <QuestionForm of={current.of} answer={current.answer} />
      ) : (
        <PromptForm of={current.of} answer={current.answer} />
      )}
    </Dialog>
  );
}

function QuestionForm(props: { readonly of: Question; readonly answer: (yes: boolean) => void }) {
  const { of } = props;
  const [typed, setTyped] = useState("");
  const ready = of.typed === undefined || typed === of.typed;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (!ready) return;
        open.value = null;
        props.answer(true);
      }}
    >
      <p>{of.text}</p>
      {of.typed !== undefined && (
        <label class="field">
          <span>
            Type <code>{of.typed}</code> to go on
          </span>
          <input
            value={typed}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
        </label>
      )}
      <div class="row end">
        <button type="button" onClick={dismiss}>
          Cancel
        </button>
        <button type="submit" class={of.danger === true ? "danger solid" : "primary"} disabled={!ready}>
          {of.action}
        </button>
      </div>
    </form>
  );
}

function PromptForm(props: { readonly of: Prompt; readonly answer: (text: string | null) => void }) {
  const { of } = props;
  const [text, setText] = useState(of.value ?? "");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (text === "") return;
        open.value = null;
        props.answer(text);
      }}
    >
      <label class="field">
        <span>{of.label}</span>
        <input
          value={text}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </label>
      <div class="row end">
        <button type="button" onClick={dismiss}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={text === ""}>
          {of.action}
        </button>
      </div>
    </form>
  );
}
