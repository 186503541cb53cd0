/** Access keys: what programs sign their requests with. */
import { useState } from "preact/hooks";
import { API, call } from "../api/client";
import type { SignedIn } from "../api/me";
import type { AccessKey, User } from "../api/types";
import { useNow } from "../components/clock";
import { ask, Dialog } from "../components/dialog";
import { since, when } from "../components/format";
import { useLoad } from "../components/load";
import { Badge, CopyButton, Empty, PageHead } from "../components/parts";
import { type Column, TableView } from "../components/table";
import { attempt, complain } from "../components/toast";

const KEYS = `${API}/keys`;

/** What the secret is good for, as lines for a shell. */
export function exportLines(key: AccessKey, region: string, origin: string): string {
  return [
    `export AWS_ACCESS_KEY_ID=${key.accessKeyId}`,
    `export AWS_SECRET_ACCESS_KEY=${key.secretAccessKey ?? ""}`,
    `export AWS_REGION=${region}`,
    `export AWS_ENDPOINT_URL=${origin}`,
  ].join("\n");
}

/** The page. */
export default function Keys(props: { readonly me: SignedIn }) {
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<AccessKey | null>(null);
  const keys = useLoad((signal) => call<{ keys: AccessKey[] }>("GET", KEYS, undefined, signal), []);
  const path = (key: AccessKey, action = "") => `${KEYS}/${encodeURIComponent(key.accessKeyId)}${action}`;

  const toggle = async (key: AccessKey) => {
    const active = key.status === "Active";
    const question = {
      title: "Disable the key?",
      text: `Requests signed with ${key.accessKeyId} are refused and its connections end. It can be enabled again.`,
      action: "Disable",
      danger: true,
    };
    if (active && !(await ask(question))) return;
    if (await attempt(() => call("POST", path(key, active ? "/disable" : "/enable")))) keys.reload();
  };
  const remove = async (key: AccessKey) => {
    const sure = await ask({
      title: "Remove the key?",
      text: `Programs that sign with ${key.accessKeyId} (user ${key.userName}) are refused from now on.`,
      action: "Remove",
      typed: key.accessKeyId.slice(-6),
      danger: true,
    });
    if (sure && (await attempt(() => call("DELETE", path(key)), "The key was removed"))) keys.reload();
  };

  return (
    <>
      <PageHead title="Access keys">
        <button type="button" class="primary" onClick={() => setMaking(true)}>
          Create key
        </button>
      </PageHead>
      <TableView
        of={keys.value?.keys}
        failure={keys.failure}
        onRetry={keys.reload}
        noun="access key"
        keyOf={(key) => key.accessKeyId}
        columns={columns(useNow())}
        actions={(key) => (
          <>
            <button type="button" class="small" onClick={() => void toggle(key)}>
              {key.status === "Active" ? "Disable" : "Enable"}
            </button>
            <button type="button" class="small danger" onClick={() => void remove(key)}>
              Remove
            </button>
          </>
        )}
        empty={
          <Empty title="No access keys" commands={["clamshell keys create NAME"]}>
            <p class="muted">Programs and AWS's SDKs sign their requests with a key. Create one here, or:</p>
          </Empty>
        }
      />
      {making && (
        <CreateKey
          onClose={() => setMaking(false)}
          onMade={(key) => {
            setMaking(false);
            setMade(key);
            keys.reload();
          }}
        />
      )}
      {made !== null && <MadeKey made={made} region={props.me.region} onClose={() => setMade(null)} />}
    </>
  );
}

function columns(now: number): readonly Column<AccessKey>[] {
  return [
    { label: "Key", head: true, look: "mono", cell: (key) => key.accessKeyId },
    { label: "User", cell: (key) => key.userName },
    {
      label: "Status",
      cell: ({ status }) => <Badge tone={status === "Active" ? "ok" : undefined} text={status} />,
    },
    { label: "Created", look: "nowrap", cell: (key) => when(key.createdAt) },
    {
      label: "Last used",
      look: "nowrap",
      cell: ({ lastUsedAt }) => (lastUsedAt === undefined ? "never" : `${since(lastUsedAt, now)} ago`),
    },
  ];
}

function MadeKey(props: { readonly made: AccessKey; readonly region: string; readonly onClose: () => void }) {
  const lines = exportLines(props.made, props.region, location.origin);
  return (
    <Dialog title="The secret, this once" onClose={props.onClose}>
      <p>Nobody can show the secret again. Keep it where the program finds it:</p>
      <pre class="secret">{lines}</pre>
      <div class="row end">
        <CopyButton text={props.made.secretAccessKey ?? ""} label="Copy secret" />
        <CopyButton text={lines} label="Copy all" />
        <button type="button" class="primary" onClick={props.onClose}>
          I have it
        </button>
      </div>
    </Dialog>
  );
}

function CreateKey(props: { readonly onClose: () => void; readonly onMade: (key: AccessKey) => void }) {
  const users = useLoad((signal) => call<{ users: User[] }>("GET", `${API}/users`, undefined, signal), []);
  const [busy, setBusy] = useState(false);
  const create = async (userName: string) => {
    setBusy(true);
    const existing = users.value?.users.some((user) => user.userName === userName) ?? false;
    try {
      props.onMade(await call<AccessKey>("POST", KEYS, { userName, existingUser: existing }));
    } catch (cause) {
      complain(cause);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Create an access key" onClose={props.onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void create(String(new FormData(event.currentTarget).get("userName")));
        }}
      >
        <label class="field">
          <span>User</span>
          <input name="userName" list="key-users" required autocomplete="off" spellcheck={false} />
          <datalist id="key-users">
            {(users.value?.users ?? []).map((user) => (
              <option key={user.userName} value={user.userName} />
            ))}
          </datalist>
        </label>
        <p class="muted small">
          The key may do what its user may. A user that is not there is made, with a policy that allows
          everything.
        </p>
        <div class="row end">
          <button type="button" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={busy}>
            Create key
          </button>
        </div>
      </form>
    </Dialog>
  );
}
