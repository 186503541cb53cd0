/** The browsers that are signed in, and how to sign them out. */
import { API, call } from "../api/client";
import { logout, type SignedIn } from "../api/me";
import type { Login } from "../api/types";
import { useNow } from "../components/clock";
import { ask } from "../components/dialog";
import { since, until, when } from "../components/format";
import { useLoad } from "../components/load";
import { Badge, Failed, Loading, PageHead } from "../components/parts";
import { printable } from "../components/printable";
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
  const list = logins.value?.logins;
  return (
    <>
      <PageHead title="Logins" />
      <p class="muted">
        Browsers that are signed in. What you do not know, sign out, and change your password.
      </p>
      {logins.failure !== null && <Failed text={logins.failure} onRetry={logins.reload} />}
      {list === undefined && logins.failure === null && <Loading />}
      {list !== undefined && (
        <div class="table-wrap">
          <table class="cards">
            <thead>
              <tr>
                <th scope="col">Browser</th>
                <th scope="col">User</th>
                <th scope="col">Address</th>
                <th scope="col">Signed in</th>
                <th scope="col" class="num">
                  Last used
                </th>
                <th scope="col" class="num">
                  Ends in
                </th>
                <th scope="col">
                  <span class="visually-hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((login) => (
                <tr key={login.loginId}>
                  <th scope="row" data-label="Browser" title={login.userAgent}>
                    {browserName(login.userAgent)} {login.current && <Badge tone="ok" text="this one" />}
                  </th>
                  <td data-label="User">{login.userName}</td>
                  <td data-label="Address">{login.sourceIp ?? "–"}</td>
                  <td class="nowrap" data-label="Signed in">
                    {when(login.createdAt)}
                  </td>
                  <td class="num" data-label="Last used">
                    {since(login.lastUsedAt, now)} ago
                  </td>
                  <td class="num" data-label="Ends in">
                    {until(login.expiresAt, now)}
                  </td>
                  <td class="actions">
                    <button type="button" class="small danger" onClick={() => void revoke(login)}>
                      Sign out
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}
