/** The browsers that are signed in, and how to sign them out. */
import { API, call } from "../api/client";
import { logout, type SignedIn } from "../api/me";
import type { Login } from "../api/types";
import { useNow } from "../components/clock";
import { ask } from "../components/dialog";
import { NOTHING, since, until, when } from "../components/format";
import { useLoad } from "../components/load";
import { Badge, PageHead } from "../components/parts";
import { printable } from "../components/printable";
import { TableView } from "../components/table";
import { attempt } from "../components/toast";

const LOGINS = `${API}/console/logins`;

/** A browser and system in a few words, from what it says of itself; the whole of it when nothing is known in it. */
export function browserName(agent: string | undefined): string {
  if (agent === undefined || agent === "") return "unknown";
  const browser = (
    [
      ["Edg/", "Edge"],
      ["Firefox/", "Firefox"],
      ["Chrome/", "Chrome"],
      ["Safari/", "Safari"],
    ] as const
  ).find(([mark]) => agent.includes(mark));
  const system = (
    [
      ["Android", "Android"],
      ["iPhone", "iPhone"],
      ["iPad", "iPad"],
      ["Windows", "Windows"],
      ["Mac OS X", "macOS"],
      ["Linux", "Linux"],
    ] as const
  ).find(([mark]) => agent.includes(mark));
  if (browser === undefined) return printable(agent).slice(0, 60);
  return system === undefined ? browser[1] : `${browser[1]} on ${system[1]}`;
}

/** The page. */
export default function Logins(_props: { readonly me: SignedIn }) {
  const now = useNow();
  const logins = useLoad((signal) => call<{ logins: Login[] }>("GET", LOGINS, undefined, signal), []);
  const revoke = async (login: Login) => {
    const sure = await ask({
      title: "Sign this browser out?",
      text: "Its terminals and live updates end; the shells go on.",
      action: "Sign out",
      danger: true,
    });
    if (!sure) return;
    const work = () => call("DELETE", `${LOGINS}/${encodeURIComponent(login.loginId)}`);
    if (await attempt(login.current ? logout : work)) logins.reload();
  };
  return (
    <>
      <PageHead title="Logins" />
      <p class="muted">
        Browsers that are signed in. What you do not know, sign out, and change your password.
      </p>
      <TableView
        of={logins.value?.logins}
        failure={logins.failure}
        onRetry={logins.reload}
        noun="login"
        keyOf={(login) => login.loginId}
        columns={[
          {
            label: "Browser",
            head: true,
            title: (login) => login.userAgent,
            cell: (login) => (
              <>
                {browserName(login.userAgent)} {login.current && <Badge tone="ok" text="this one" />}
              </>
            ),
          },
          { label: "User", cell: (login) => login.userName },
          { label: "Address", cell: (login) => login.sourceIp ?? NOTHING },
          { label: "Signed in", look: "nowrap", cell: (login) => when(login.createdAt) },
          { label: "Last used", look: "num", cell: (login) => `${since(login.lastUsedAt, now)} ago` },
          { label: "Ends in", look: "num", cell: (login) => until(login.expiresAt, now) },
        ]}
        actions={(login) => (
          <button type="button" class="small danger" onClick={() => void revoke(login)}>
            Sign out
          </button>
        )}
      />
    </>
  );
}
