/** Users, and what they may do at the console. */
import { useState } from "preact/hooks";
import { API, call } from "../api/client";
import type { SignedIn } from "../api/me";
import type { User } from "../api/types";
import { ask, Dialog } from "../components/dialog";
import { NOTHING, when } from "../components/format";
import { useLoad } from "../components/load";
import { Empty, PageHead } from "../components/parts";
import { printable } from "../components/printable";
import { TableView } from "../components/table";
import { attempt } from "../components/toast";

const USERS = `${API}/users`;
const ROLES = ["viewer", "operator", "admin"] as const;
/** The policy that a console role is written to. */
const ROLE_POLICY = "ConsoleRole";

/** Shortest password that the server takes. */
export const PASSWORD_MIN = 12;

/** The console role of a user, as the id of its policy says it; null for one without. */
export function roleOf(user: User): string | null {
  const policy = user.policies[ROLE_POLICY];
  if (typeof policy !== "object" || policy === null || !("Id" in policy)) return null;
  return ROLES.find((role) => policy.Id === `clamshell-console-role-${role}`) ?? null;
}

/** The page. */
export default function Users(props: { readonly me: SignedIn }) {
  // A web terminal has users of its own, in a directory of its own.
  const where = props.me.mode === "web" ? " --data-dir DIR" : "";
  const users = useLoad((signal) => call<{ users: User[] }>("GET", USERS, undefined, signal), []);
  const [making, setMaking] = useState(false);
  const [password, setPassword] = useState<User | null>(null);
  const path = (user: User, action = "") => `${USERS}/${encodeURIComponent(user.userName)}${action}`;

  const setRole = async (user: User, role: string) => {
    const done = `${user.userName} is ${role === "" ? "without a role" : role} now`;
    const work = () =>
      role === ""
        ? call("DELETE", path(user, `/policies/${ROLE_POLICY}`))
        : call("PUT", path(user, "/console-role"), { role });
    await attempt(work, done);
    users.reload();
  };
  const remove = async (user: User) => {
    const sure = await ask({
      title: "Remove the user?",
      text: "Their logins end. A user who still has access keys cannot be removed.",
      action: "Remove",
      typed: user.userName,
      danger: true,
    });
    if (sure && (await attempt(() => call("DELETE", path(user)), `${user.userName} was removed`)))
      users.reload();
  };

  return (
    <>
      <PageHead title="Users">
        <button type="button" class="primary" onClick={() => setMaking(true)}>
          Create user
        </button>
      </PageHead>
      <TableView
        of={users.value?.users}
        failure={users.failure}
        onRetry={users.reload}
        noun="user"
        keyOf={(user) => user.userName}
        columns={[
          { label: "User", head: true, title: (user) => user.arn, cell: (user) => user.userName },
          {
            label: "Console role",
            cell: (user) => <RoleChoice user={user} onChange={(role) => void setRole(user, role)} />,
          },
          { label: "Policies", cell: (user) => Object.keys(user.policies).join(", ") || NOTHING },
          { label: "Description", cell: (user) => printable(user.description ?? "") },
          { label: "Created", look: "nowrap", cell: (user) => when(user.createdAt) },
        ]}
        actions={(user) => (
          <>
            <button type="button" class="small" onClick={() => setPassword(user)}>
              Set password
            </button>
            <button type="button" class="small danger" onClick={() => void remove(user)}>
              Remove
            </button>
          </>
        )}
        empty={
          <Empty
            title="No users yet"
            commands={[
              `clamshell users create NAME --console-role operator${where}`,
              `clamshell users passwd NAME${where}`,
            ]}
          >
            <p class="muted">Give each person a name of their own, a role and a password:</p>
          </Empty>
        }
      />
      {making && (
        <CreateUser
          onClose={() => setMaking(false)}
          onMade={() => {
            setMaking(false);
            users.reload();
          }}
        />
      )}
      {password !== null && (
        <SetPassword user={password} path={path(password, "/password")} onClose={() => setPassword(null)} />
      )}
    </>
  );
}

function RoleChoice(props: { readonly user: User; readonly onChange: (role: string) => void }) {
  const { user } = props;
  return (
    <select
      aria-label={`Console role of ${user.userName}`}
      value={roleOf(user) ?? ""}
      onChange={(event) => props.onChange(event.currentTarget.value)}
    >
      <option value="">none</option>
      {ROLES.map((role) => (
        <option key={role} value={role}>
          {role}
        </option>
      ))}
    </select>
  );
}

function CreateUser(props: { readonly onClose: () => void; readonly onMade: () => void }) {
  const create = async (form: FormData) => {
    const userName = String(form.get("userName"));
    const role = String(form.get("role"));
    const password = String(form.get("password"));
    const own = `${USERS}/${encodeURIComponent(userName)}`;
    const done = await attempt(async () => {
      await call("POST", USERS, { userName, description: String(form.get("description")) });
      if (role !== "") await call("PUT", `${own}/console-role`, { role });
      if (password !== "") await call("PUT", `${own}/password`, { password });
    }, `${userName} was made`);
    if (done) props.onMade();
  };
  return (
    <Dialog title="Create a user" onClose={props.onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void create(new FormData(event.currentTarget));
        }}
      >
        <label class="field">
          <span>User name</span>
          <input name="userName" required autocomplete="off" autocapitalize="none" spellcheck={false} />
        </label>
        <label class="field">
          <span>Description</span>
          <input name="description" autocomplete="off" />
        </label>
        <label class="field">
          <span>Console role</span>
          <select name="role">
            <option value="viewer">viewer: looks and watches</option>
            <option value="operator">operator: works with sessions and agents</option>
            <option value="admin">admin: everything</option>
            <option value="">none: own policies only</option>
          </select>
        </label>
        <label class="field">
          <span>Password (optional, at least {PASSWORD_MIN} characters)</span>
          <input name="password" type="password" minLength={PASSWORD_MIN} autocomplete="new-password" />
        </label>
        <div class="row end">
          <button type="button" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Create user
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function SetPassword(props: { readonly user: User; readonly path: string; readonly onClose: () => void }) {
  return (
    <Dialog title={`Password of ${props.user.userName}`} onClose={props.onClose}>
      <form
        onSubmit={async (event) => {
          event.preventDefault();
          const password = String(new FormData(event.currentTarget).get("password"));
          if (await attempt(() => call("PUT", props.path, { password }), "The password was set"))
            props.onClose();
        }}
      >
        <label class="field">
          <span>New password, at least {PASSWORD_MIN} characters</span>
          <input
            name="password"
            type="password"
            minLength={PASSWORD_MIN}
            required
            autocomplete="new-password"
          />
        </label>
        <div class="row end">
          <button type="button" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Set password
          </button>
        </div>
      </form>
    </Dialog>
  );
}
