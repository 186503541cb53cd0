/** What is around every view: the bar on top, the menu, and the word that the server is away. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { connection, sessions, shells } from "../api/events";
import { logout, type SignedIn } from "../api/me";
import { menu, type View, type ViewName } from "../pages/views";
import { BASE, href, route } from "../router";
import { Icon, type IconName } from "./icon";
import { type Theme, theme } from "./preferences";
import { attempt } from "./toast";

const GROUPS = ["Work", "Access", "Server"] as const;

/** The frame around a view. */
export function Frame(props: {
  readonly me: SignedIn;
  readonly current: ViewName | null;
  readonly children: ComponentChildren;
}) {
  const { me, current } = props;
  const [open, setOpen] = useState(false);
  const main = useRef<HTMLElement>(null);
  const side = useRef<HTMLElement>(null);
  const bleed = current === "terminal";

  useEffect(() => {
    setOpen(false);
    main.current?.scrollTo(0, 0);
  }, [route.value.path.join("/")]);
  useEffect(() => {
    if (!open) return;
    const onKey = (event: KeyboardEvent) => event.key === "Escape" && setOpen(false);
    addEventListener("keydown", onKey);
    side.current?.querySelector("a")?.focus();
    return () => removeEventListener("keydown", onKey);
  }, [open]);

  return (
    <div class={`frame${bleed ? " bleed" : ""}${open ? " menu-open" : ""}`}>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="topbar">
        <button
          type="button"
          class="plain menu-button"
          aria-label="Menu"
          aria-expanded={open}
          aria-controls="menu"
          onClick={() => setOpen(!open)}
        >
          <Icon name="menu" />
        </button>
        <a class="brand" href={BASE}>
          <img src={`${BASE}/favicon.svg`} alt="" />
          Clamshell
        </a>
        <span class="where" title="Account and region of this server">
          {me.accountId} · {me.region}
        </span>
        <span class="grow" />
        <ThemeButton />
        <span class="who" title={me.arn}>
          {me.userName}
          {me.role !== null && <span class="muted wide-only"> · {me.role}</span>}
        </span>
        <button
          type="button"
          class="plain"
          onClick={() => void attempt(logout)}
          aria-label="Sign out"
          title="Sign out"
        >
          <Icon name="out" />
        </button>
      </header>
      <Lost />
      <nav class="side" id="menu" aria-label="Views" ref={side}>
        {GROUPS.map((group) => (
          <Group
            key={group}
            name={group}
            views={menu(me).filter((view) => view.group === group)}
            current={current}
          />
        ))}
        <footer>Clamshell {me.serverVersion}</footer>
      </nav>
      <button
        type="button"
        class="backdrop"
        aria-label="Close the menu"
        tabIndex={-1}
        onClick={() => setOpen(false)}
      />
      <main class="main" id="main" tabIndex={-1} ref={main}>
        {props.children}
      </main>
    </div>
  );
}

function Group(props: {
  readonly name: string;
  readonly views: readonly View[];
  readonly current: ViewName | null;
}) {
  if (props.views.length === 0) return null;
  return (
    <div>
      <h2>{props.name}</h2>
      <ul>
        {props.views.map((view) => (
          <li key={view.name}>
            <a href={href([view.name])} aria-current={view.name === props.current ? "page" : undefined}>
              <Icon name={view.icon} />
              {view.label}
              <Count name={view.name} />
            </a>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** How many run, beside the views whose number is known anyway. */
function Count(props: { readonly name: ViewName }) {
  let number = 0;
  if (props.name === "sessions") {
    for (const session of sessions.value?.values() ?? []) if (session.state !== "Stopped") number += 1;
  } else if (props.name === "shells") {
    for (const shell of shells.value?.values() ?? []) if (shell.state !== "Ended") number += 1;
  }
  if (number === 0) return null;
  return (
    <span class="count" title="running">
      {number}
    </span>
  );
}

/** Says that live updates have stopped, only after they once came. */
function Lost() {
  const state = connection.value;
  return (
    <div class="banner" role="status" hidden={state !== "lost" && state !== "refused"}>
      {state === "refused" && "You may not watch this server (clamshell:Events): lists stay empty here."}
      {state === "lost" && "Connection to the server lost, retrying. What you see may be old."}
    </div>
  );
}

const NEXT: Record<Theme, { readonly theme: Theme; readonly icon: IconName; readonly label: string }> = {
  system: { theme: "dark", icon: "system", label: "Colors: as the system. Change to dark" },
  dark: { theme: "light", icon: "moon", label: "Colors: dark. Change to light" },
  light: { theme: "system", icon: "sun", label: "Colors: light. Change to the system's" },
};

/** Goes through the choices of colors. */
export function ThemeButton() {
  const next = NEXT[theme.value];
  return (
    <button
      type="button"
      class="plain"
      aria-label={next.label}
      title={next.label}
      onClick={() => {
        theme.value = next.theme;
      }}
    >
      <Icon name={next.icon} />
    </button>
  );
}
