/** What a person sets for themselves: password, colors, the font of terminals. */
import { useState } from "preact/hooks";
import { API, call } from "../api/client";
import type { SignedIn } from "../api/me";
import { useNow } from "../components/clock";
import { until } from "../components/format";
import { Facts, PageHead } from "../components/parts";
import {
  FONT_SIZE,
  type Renderer,
  renderer,
  type Theme,
  terminalFontSize,
  theme,
} from "../components/preferences";
import { attempt } from "../components/toast";
import { PASSWORD_MIN } from "./users";

const THEMES: readonly (readonly [Theme, string])[] = [
  ["system", "As the system"],
  ["dark", "Dark"],
  ["light", "Light"],
];

const RENDERERS: readonly (readonly [Renderer, string])[] = [
  ["auto", "Automatic: the graphics card where there is one"],
  ["webgl", "Always WebGL"],
  ["elements", "Always the page's elements"],
];

/** Why a new password will not do; null when it may. */
export function passwordProblem(next: string, again: string): string | null {
  if (next.length < PASSWORD_MIN) return `At least ${PASSWORD_MIN} characters`;
  return next === again ? null : "The two are not the same";
}

/** The page. */
export default function Settings(props: { readonly me: SignedIn }) {
  const { me } = props;
  const now = useNow();
  return (
    <>
      <PageHead title="Settings" />
      <div class="grid">
        <section class="card">
          <h2>Appearance</h2>
          <fieldset class="choices">
            <legend class="label">Colors</legend>
            {THEMES.map(([value, label]) => (
              <label key={value} class="check">
                <input
                  type="radio"
                  name="theme"
                  checked={theme.value === value}
                  onChange={() => {
                    theme.value = value;
                  }}
                />
                {label}
              </label>
            ))}
          </fieldset>
          <label class="field">
            <span>Font size of terminals: {terminalFontSize.value} px</span>
            <input
              type="range"
              min={FONT_SIZE.min}
              max={FONT_SIZE.max}
              value={terminalFontSize.value}
              onInput={(event) => {
                terminalFontSize.value = event.currentTarget.valueAsNumber;
              }}
            />
          </label>
          <FontSample size={terminalFontSize.value} />
          <fieldset class="choices">
            <legend class="label">What draws terminals, from the next one on</legend>
            {RENDERERS.map(([value, label]) => (
              <label key={value} class="check">
                <input
                  type="radio"
                  name="renderer"
                  checked={renderer.value === value}
                  onChange={() => {
                    renderer.value = value;
                  }}
                />
                {label}
              </label>
            ))}
          </fieldset>
        </section>
        <PasswordForm />
        <section class="card">
          <h2>You and this server</h2>
          <Facts
            of={[
              ["User", me.userName],
              [
                "ARN",
                <span key="arn" class="mono">
                  {me.arn}
                </span>,
              ],
              ["Console role", me.role ?? "none (own policies)"],
              ["Login ends in", until(me.expiresAt, now)],
              ["Account, region", `${me.accountId}, ${me.region}`],
              ["Version", me.serverVersion],
            ]}
          />
        </section>
      </div>
    </>
  );
}

function FontSample(props: { readonly size: number }) {
  return (
    <pre class="font-sample" style={{ fontSize: `${props.size}px` }}>
      $ git status 0O 1lI
    </pre>
  );
}

function PasswordForm() {
  const [problem, setProblem] = useState<string | null>(null);
  const change = async (form: HTMLFormElement) => {
    const data = new FormData(form);
    const next = String(data.get("new"));
    const found = passwordProblem(next, String(data.get("again")));
    setProblem(found);
    if (found !== null) return;
    const work = () =>
      call("PUT", `${API}/console/password`, { current: String(data.get("current")), new: next });
    if (await attempt(work, "The password was changed")) form.reset();
  };
  return (
    <section class="card">
      <h2>Password</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void change(event.currentTarget);
        }}
      >
        <label class="field">
          <span>Current password (empty if you have none)</span>
          <input name="current" type="password" autocomplete="current-password" />
        </label>
        <label class="field">
          <span>New password</span>
          <input name="new" type="password" autocomplete="new-password" required />
        </label>
        <label class="field">
          <span>New password again</span>
          <input name="again" type="password" autocomplete="new-password" required />
        </label>
        {problem !== null && (
          <p class="error-text" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="primary">
          Change password
        </button>
      </form>
    </section>
  );
}
