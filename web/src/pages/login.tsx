/** The way in: a password, or a provider of identities. What a one-time link opens is `link.tsx`. */
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { API, ApiError } from "../api/client";
import { link } from "../api/link";
import { login } from "../api/me";
import type { Me } from "../api/types";
import { countdown } from "../components/format";
import { explain } from "../components/toast";
import { BASE, navigate } from "../router";

/** The card in the middle that whoever is not signed in sees. */
export function Card(props: { readonly children: ComponentChildren }) {
  return (
    <main class="login">
      <div class="login-card">
        <h1 class="brand">
          <img src={`${BASE}/favicon.svg`} alt="" />
          Clamshell
        </h1>
        {props.children}
      </div>
    </main>
  );
}

/** Asks who is there. `refusal` says why an earlier way in was none. */
export function LoginPage(props: {
  readonly me: Extract<Me, { signedIn: false }>;
  readonly refusal?: string;
}) {
  const { methods } = props.me;
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(props.refusal ?? null);
  const [lockedUntil, setLockedUntil] = useState(0);
  const left = useCountdown(lockedUntil);

  const enter = async (proof: Parameters<typeof login>[0]) => {
    setBusy(true);
    setFailure(null);
    try {
      await login(proof);
      link.value = null;
      if (location.pathname === `${BASE}/login`) navigate(BASE, true);
    } catch (cause) {
      if (cause instanceof ApiError && cause.retryAfter !== undefined) {
        setLockedUntil(Date.now() + cause.retryAfter * 1000);
      }
      setFailure(explain(cause));
      setBusy(false);
    }
  };

  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    if (!(event.currentTarget instanceof HTMLFormElement)) return;
    const data = new FormData(event.currentTarget);
    void enter({ userName: String(data.get("userName")), password: String(data.get("password")) });
  };

  const locked = left > 0;
  return (
    <Card>
      {locked ? (
        <p class="notice danger" role="alert">
          Too many attempts. Try again in {countdown(left)}.
        </p>
      ) : (
        failure !== null && (
          <p class="notice danger" role="alert">
            {failure}
          </p>
        )
      )}
      {busy && (
        <p role="status" class="muted">
          Signing in…
        </p>
      )}
      {methods.password && (
        <form onSubmit={onSubmit}>
          <label class="field">
            <span>User name</span>
            <input
              name="userName"
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              required
            />
          </label>
          <label class="field">
            <span>Password</span>
            <input name="password" type="password" autocomplete="current-password" required />
          </label>
          <button type="submit" class="primary" disabled={busy || locked}>
            Sign in
          </button>
        </form>
      )}
      {methods.oidc && (
        <>
          {methods.password && <hr />}
          <a class="button" href={`${API}/console/oidc/start`}>
            Sign in with {methods.oidc.label}
          </a>
        </>
      )}
      <hr />
      <p class="muted small">
        No password yet? On the server's machine,{" "}
        <code>clamshell console{props.me.mode === "web" && " --data-dir DIR"}</code> prints a link that signs
        you in once{props.me.mode === "web" && "; DIR is the directory of the web terminal"}.
      </p>
    </Card>
  );
}

/** Milliseconds left until a time, each second anew. */
function useCountdown(until: number): number {
  const [, draw] = useState(0);
  useEffect(() => {
    if (until <= Date.now()) return;
    const timer = setInterval(() => {
      draw((count) => count + 1);
      if (Date.now() >= until) clearInterval(timer);
    }, 250);
    return () => clearInterval(timer);
  }, [until]);
  return Math.max(0, until - Date.now());
}
