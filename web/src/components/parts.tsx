/** Small pieces that many pages use. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { NOTHING, percent } from "./format";
import { Icon, type IconName } from "./icon";
import { complain } from "./toast";

/** The head of a page: where it is, its name, and what can be done. */
export function PageHead(props: {
  readonly title: string;
  readonly crumbs?: readonly (readonly [label: string, href: string])[];
  readonly children?: ComponentChildren;
}) {
  return (
    <>
      {props.crumbs !== undefined && (
        <nav class="crumbs" aria-label="Above this">
          {props.crumbs.map(([label, to]) => (
            <span key={to}>
              <a href={to}>{label}</a> /
            </span>
          ))}
        </nav>
      )}
      <div class="head">
        <h1>{props.title}</h1>
        {props.children}
      </div>
    </>
  );
}

/** Stands where a list has nothing: what to do next, with the line to type. */
export function Empty(props: {
  readonly title: string;
  readonly commands?: readonly string[];
  readonly children?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <h2>{props.title}</h2>
      {props.children}
      {props.commands !== undefined && (
        <>
          <pre>{props.commands.join("\n")}</pre>
          <div>
            <CopyButton text={props.commands.join("\n")} />
          </div>
        </>
      )}
    </div>
  );
}

/** Says that something is on its way. */
export function Loading() {
  return (
    <p class="loading" role="status">
      Loading…
    </p>
  );
}

/** Says what could not be loaded. */
export function Failed(props: { readonly text: string; readonly onRetry?: () => void }) {
  return (
    <div class="notice danger" role="alert">
      <p>{props.text}</p>
      {props.onRetry && (
        <button type="button" onClick={props.onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Copies a text. */
export function CopyButton(props: { readonly text: string; readonly label?: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(props.text);
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      complain(new Error("The browser did not allow to copy; select the text instead"));
    }
  };
  return (
    <button type="button" class="small" onClick={() => void copy()}>
      <span role="status">{copied ? "Copied" : (props.label ?? "Copy")}</span>
    </button>
  );
}

/** A button of a row of a table: a drawing, and its meaning in words for whoever asks. */
export function RowButton(props: {
  readonly icon: IconName;
  readonly label: string;
  readonly danger?: boolean;
  readonly onClick: () => void;
}) {
  const { label } = props;
  return (
    <button
      type="button"
      class={props.danger === true ? "small square danger" : "small square"}
      aria-label={label}
      title={label}
      onClick={props.onClick}
    >
      <Icon name={props.icon} />
    </button>
  );
}

/** The same, as a link; with a file name it saves what it leads to. */
export function RowLink(props: {
  readonly icon: IconName;
  readonly label: string;
  readonly href: string;
  readonly download?: string;
}) {
  const { label } = props;
  return (
    <a
      class="button small square"
      href={props.href}
      download={props.download}
      aria-label={label}
      title={label}
    >
      <Icon name={props.icon} />
    </a>
  );
}

/** A state in a word and a color. */
export function Badge(props: {
  readonly tone?: "ok" | "warn" | "danger" | undefined;
  readonly text: string;
}) {
  return <span class={`badge ${props.tone ?? ""}`}>{props.text}</span>;
}

/** How full something is. */
export function Meter(props: { readonly share: number | undefined; readonly label: string }) {
  const { share } = props;
  if (share === undefined || !Number.isFinite(share)) return null;
  const value = Math.min(1, Math.max(0, share));
  const tone = value > 0.95 ? " danger" : value > 0.8 ? " warn" : "";
  return (
    // biome-ignore lint/a11y/useSemanticElements: the element cannot be drawn alike in all browsers.
    <span
      class={`bar${tone}`}
      role="meter"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(value * 100)}
      aria-valuetext={percent(share)}
    >
      <i style={{ width: `${value * 100}%` }} />
    </span>
  );
}

/** Facts by name; those that are undefined are left out. */
export function Facts(props: {
  readonly of: readonly (readonly [name: string, value: ComponentChildren | undefined])[];
}) {
  return (
    <dl class="facts">
      {props.of.map(
        ([name, value]) =>
          value !== undefined && (
            <>
              <dt key={`${name}-name`}>{name}</dt>
              <dd key={name}>{value === "" ? NOTHING : value}</dd>
            </>
          ),
      )}
    </dl>
  );
}
