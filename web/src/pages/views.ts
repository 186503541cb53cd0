/** Which view an address shows, and who finds it in the menu. The server decides what anyone may do anyway. */
import type { SignedIn } from "../api/me";
import type { Feature } from "../api/types";
import type { IconName } from "../components/icon";

/** Name of a view: the first segment of its address. */
export type ViewName =
  | "sessions"
  | "terminal"
  | "runtimes"
  | "shells"
  | "logs"
  | "files"
  | "keys"
  | "users"
  | "logins"
  | "audit"
  | "doctor"
  | "settings";

type Role = NonNullable<SignedIn["role"]>;

/** A view in the menu. */
export interface View {
  readonly name: ViewName;
  readonly label: string;
  readonly icon: IconName;
  readonly group: "Work" | "Access" | "Server";
  /** What the server must be able to do for it. */
  readonly feature?: Feature;
  /** Where it makes sense; both without it. */
  readonly mode?: SignedIn["mode"];
  /** The built-in roles that may use it; nobody is left out without it. Own policies (no role) see everything. */
  readonly roles?: readonly Role[];
}

/** All views in the order of the menu. */
export const VIEWS: readonly View[] = [
  { name: "sessions", label: "Sessions", icon: "session", group: "Work", feature: "sessions" },
  { name: "terminal", label: "Terminals", icon: "terminal", group: "Work" },
  { name: "runtimes", label: "Runtimes", icon: "runtime", group: "Work", feature: "runtimes" },
  { name: "shells", label: "Shells", icon: "recording", group: "Work", feature: "recordings" },
  { name: "logs", label: "Agent logs", icon: "log", group: "Work", feature: "logs" },
  { name: "files", label: "Files", icon: "folder", group: "Work", feature: "files" },
  {
    name: "keys",
    label: "Access keys",
    icon: "key",
    group: "Access",
    feature: "keys",
    mode: "serve",
    roles: ["admin"],
  },
  { name: "users", label: "Users", icon: "users", group: "Access", feature: "keys", roles: ["admin"] },
  { name: "logins", label: "Logins", icon: "login", group: "Access" },
  { name: "audit", label: "Audit trail", icon: "audit", group: "Access", feature: "audit", roles: ["admin"] },
  { name: "doctor", label: "Doctor", icon: "doctor", group: "Server", feature: "doctor" },
  { name: "settings", label: "Settings", icon: "settings", group: "Server" },
];

/** What of a person decides about the views. */
type Viewer = Pick<SignedIn, "features" | "mode" | "role">;

/** Whether the server has what a view shows. */
function isServed(view: View, me: Viewer): boolean {
  if (view.mode !== undefined && view.mode !== me.mode) return false;
  return view.feature === undefined || me.features.includes(view.feature);
}

/** The views that a person finds in the menu. */
export function menu(me: Viewer): readonly View[] {
  return VIEWS.filter((view) => {
    if (!isServed(view, me)) return false;
    return view.roles === undefined || me.role === null || view.roles.includes(me.role);
  });
}

/** What an address shows. */
export type Shown =
  | { readonly kind: "view"; readonly name: ViewName }
  | { readonly kind: "share" }
  | { readonly kind: "missing" };

/** Finds the view of a path; without one, the first that there is. A view that the server lacks is missing. */
export function resolve(path: readonly string[], me: Viewer): Shown {
  const [first] = path;
  if (first === "share") return { kind: "share" };
  if (first === undefined || first === "login") {
    return { kind: "view", name: me.features.includes("sessions") ? "sessions" : "terminal" };
  }
  const view = VIEWS.find((candidate) => candidate.name === first);
  if (view === undefined) return { kind: "missing" };
  // A role that does not find a view in the menu may still follow a link to it: the server's answer says why not.
  if (!isServed(view, me)) return { kind: "missing" };
  return { kind: "view", name: view.name };
}

/** What a person may change, for the buttons that are shown. */
export interface Abilities {
  /** Start, stop and remove sessions; open shells; write files; invoke agents. */
  readonly operate: boolean;
  /** Make users and keys, change runtimes. */
  readonly administer: boolean;
}

/** What a role may do; someone with policies of their own is shown everything. */
export function abilities(role: SignedIn["role"]): Abilities {
  return { operate: role !== "viewer", administer: role === "admin" || role === null };
}
