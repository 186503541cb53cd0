/** The frame of the page: who is signed in, the menu, and the view that the address names. */
import { useEffect, useState } from "preact/hooks";
import { forget, startEvents } from "./api/events";
import { link, startLinks } from "./api/link";
import { loadMe, me, type SignedIn } from "./api/me";
import { Boundary } from "./components/boundary";
import { Questions } from "./components/dialog";
import { Frame } from "./components/frame";
import { lazy } from "./components/lazy";
import { startPreferences } from "./components/preferences";
import { explain, Toasts } from "./components/toast";
import { LinkPage } from "./pages/link";
import { LoginPage } from "./pages/login";
import { resolve, VIEWS, type ViewName } from "./pages/views";
import { BASE, route, startRouter } from "./router";

const Terminal = lazy(() => import("./terminal/index"));

/** The code of each view, fetched when it is first shown. */
const PAGES: Record<Exclude<ViewName, "terminal">, ReturnType<typeof lazy<{ readonly me: SignedIn }>>> = {
  sessions: lazy(() => import("./pages/sessions")),
  runtimes: lazy(() => import("./pages/runtimes")),
  shells: lazy(() => import("./pages/shells")),
  logs: lazy(() => import("./pages/logs")),
  files: lazy(() => import("./pages/files")),
  keys: lazy(() => import("./pages/keys")),
  users: lazy(() => import("./pages/users")),
  logins: lazy(() => import("./pages/logins")),
  audit: lazy(() => import("./pages/audit")),
  doctor: lazy(() => import("./pages/doctor")),
  settings: lazy(() => import("./pages/settings")),
};

/** The whole page. */
export function App() {
  useEffect(startRouter, []);
  useEffect(startLinks, []);
  useEffect(startPreferences, []);
  return (
    <>
      <Content />
      <Questions />
      <Toasts />
    </>
  );
}

function Content() {
  const [failure, setFailure] = useState<string | null>(null);
  const who = me.value;
  const share = route.value.path[0] === "share" ? shareToken(location.hash) : null;

  const ask = () => {
    setFailure(null);
    loadMe().catch((cause: unknown) => setFailure(explain(cause)));
  };
  useEffect(() => {
    if (share === null) ask();
  }, [share]);

  if (share !== null) {
    return (
      <Boundary resetOn="share">
        <Terminal me={null} share={share} />
      </Boundary>
    );
  }
  if (failure !== null) {
    return (
      <main class="login">
        <div class="login-card" role="alert">
          <h1>No answer</h1>
          <p>{failure}</p>
          <button type="button" onClick={ask}>
            Try again
          </button>
        </div>
      </main>
    );
  }
  if (who === null) {
    return (
      <p class="loading" role="status">
        Loading…
      </p>
    );
  }
  if (link.value !== null) return <LinkPage token={link.value} me={who} />;
  if (!who.signedIn) return <LoginPage me={who} />;
  return <Inside me={who} />;
}

/** The page of a person who is signed in. */
function Inside(props: { readonly me: SignedIn }) {
  const { me } = props;
  // In front of another endpoint there is no stream.
  useEffect(() => (me.mode === "serve" ? startEvents() : forget), [me.userName, me.mode]);
  const { path } = route.value;
  const shown = resolve(path, me);
  const current = shown.kind === "view" ? shown.name : null;
  useEffect(() => {
    const label = VIEWS.find((view) => view.name === current)?.label;
    document.title = label === undefined ? "Clamshell" : `${label} · Clamshell`;
  }, [current]);
  return (
    <Frame me={me} current={current}>
      <Boundary resetOn={path.join("/")}>
        {current === null ? <Missing /> : <Page name={current} me={me} />}
      </Boundary>
    </Frame>
  );
}

function Page(props: { readonly name: ViewName; readonly me: SignedIn }) {
  if (props.name === "terminal") return <Terminal me={props.me} />;
  const View = PAGES[props.name];
  return <View me={props.me} />;
}

function Missing() {
  return (
    <div class="empty">
      <h1>There is nothing here</h1>
      <p class="muted">The address names no view of this server.</p>
      <a class="button" href={BASE}>
        To the start
      </a>
    </div>
  );
}

/** The token of a share link; it stays in the address, so that a reload comes back. */
function shareToken(hash: string): string | null {
  return hash.length > 1 ? hash.slice(1) : null;
}
