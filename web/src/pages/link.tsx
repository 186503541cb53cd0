/**
 * What a one-time link opens. It says as whom it signs in, and who is signed in here already, and waits for a person: a
 * link may come from somebody who wants others to work under their eyes.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/client";
import { link, linkUser } from "../api/link";
import { login } from "../api/me";
import type { Me } from "../api/types";
import { explain } from "../components/toast";
import { BASE, navigate } from "../router";
import { Card, LoginPage } from "./login";

const GONE = "This link was used already, has expired or is incomplete. A new one signs you in.";

/** Asks whether to sign in by the link. */
export function LinkPage(props: { readonly token: string; readonly me: Me }) {
  const { token, me } = props;
  const [userName, setUserName] = useState<string | null>(null);
  const [failure, setFailure] = useState<{ readonly text: string; readonly isGone: boolean } | null>(null);
  const [busy, setBusy] = useState(true);
  const button = useRef<HTMLButtonElement>(null);

  const work = async (step: () => Promise<void>) => {
    setBusy(true);
    setFailure(null);
    try {
      await step();
    } catch (cause) {
      const isGone = cause instanceof ApiError && cause.status === 403;
      setFailure({ text: isGone ? GONE : (explain(cause) ?? ""), isGone });
    }
    setBusy(false);
  };
  const ask = () => work(async () => setUserName(await linkUser(token)));
  const enter = () =>
    work(async () => {
      await login({ link: token });
      leave();
    });

  useEffect(() => {
    setUserName(null);
    void ask();
  }, [token]);
  // Enter goes on: whoever made the link has nothing else to do here.
  useEffect(() => button.current?.focus(), [userName, busy]);

  if (failure?.isGone === true && !me.signedIn) return <LoginPage me={me} refusal={failure.text} />;
  const here = me.signedIn ? me.userName : null;
  return (
    <Card>
      {failure !== null && (
        <p class="notice danger" role="alert">
          {failure.text}
        </p>
      )}
      {failure !== null && !failure.isGone && userName === null && (
        <button type="button" class="primary" onClick={() => void ask()}>
          Try again
        </button>
      )}
      {userName === null && busy && (
        <p role="status" class="muted">
          Reading the link…
        </p>
      )}
      {userName !== null && failure?.isGone !== true && (
        <>
          {here !== null && here !== userName && (
            <p class="notice warn">
              You are signed in as <strong>{here}</strong> in this browser. That login ends when you go on.
            </p>
          )}
          {here === userName && <p>You are signed in as {here} already.</p>}
          <button
            type="button"
            class="primary"
            ref={button}
            disabled={busy}
            aria-describedby="link-origin"
            onClick={() => void enter()}
          >
            Sign in as {userName} with this link
          </button>
          <p class="muted small" id="link-origin">
            It works once. If somebody else gave it to you, what you do here you do as {userName}, and they
            may see it.
          </p>
        </>
      )}
      <hr />
      <button type="button" onClick={leave}>
        {here === null ? "Sign in as somebody else" : `Stay signed in as ${here}`}
      </button>
    </Card>
  );
}

/** To the console, without the link. */
function leave(): void {
  link.value = null;
  navigate(BASE, true);
}
