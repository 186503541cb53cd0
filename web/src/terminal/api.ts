/** Calls of the server about shells: names, links for others, what runs where. */
import { API, call, send } from "../api/client";
import type { Session, Shell } from "../api/types";
import { type ShellAddress, shellPath } from "./socket";

/** A link that lets somebody else in. */
export interface Share {
  readonly shareId: string;
  readonly access: "watch" | "write";
  readonly expiresAt: string;
  /** Only in the answer that makes it. */
  readonly url?: string;
}

/** What the holder of a link may see. */
export interface SharedShell {
  readonly runtimeArn: string;
  readonly runtimeName: string;
  readonly qualifier: string;
  readonly sessionId: string;
  readonly shellId: string;
  readonly access: "watch" | "write";
  readonly expiresAt: string;
  readonly title?: string;
  readonly isDefaultTitle?: boolean;
}

/** A runtime as the control plane lists it. */
export interface Runtime {
  readonly agentRuntimeArn: string;
  readonly agentRuntimeName: string;
}

export async function listShells(): Promise<readonly Shell[]> {
  return (await call<{ shells: Shell[] }>("GET", `${API}/shells`)).shells;
}

export async function listSessions(): Promise<readonly Session[]> {
  return (await call<{ sessions: Session[] }>("GET", `${API}/sessions`)).sessions;
}

export async function listRuntimes(): Promise<readonly Runtime[]> {
  return (await call<{ agentRuntimes: Runtime[] }>("POST", "/runtimes/?maxResults=100")).agentRuntimes;
}

export async function showShell(at: ShellAddress): Promise<Shell> {
  return await call<Shell>("GET", shellPath(at));
}

export async function renameShell(at: ShellAddress, title: string): Promise<void> {
  await call("PUT", shellPath(at, "/title"), { title });
}

export async function closeShell(at: ShellAddress): Promise<void> {
  await call("DELETE", shellPath(at));
}

/** Ends a session at the endpoint, with all that runs in it. */
export async function stopSession(at: Omit<ShellAddress, "shell">): Promise<void> {
  const query = new URLSearchParams({ runtime: at.runtime, qualifier: at.qualifier });
  await call("POST", `${API}/sessions/${encodeURIComponent(at.session)}/stop?${query}`);
}

export async function listShares(at: ShellAddress): Promise<readonly Share[]> {
  return (await call<{ shares: Share[] }>("GET", shellPath(at, "/shares"))).shares;
}

export async function makeShare(at: ShellAddress, access: Share["access"], seconds: number): Promise<Share> {
  return await call<Share>("POST", shellPath(at, "/shares"), { access, expiresInSeconds: seconds });
}

export async function removeShare(shareId: string): Promise<void> {
  await call("DELETE", `${API}/shares/${encodeURIComponent(shareId)}`);
}

export async function sharedShell(token: string): Promise<SharedShell> {
  const response = await send("GET", `${API}/shares/current`, { headers: { "X-Clamshell-Share": token } });
  return (await response.json()) as SharedShell;
}

/** Address of a shell's recording. */
export function recordingUrl(at: ShellAddress): string {
  return shellPath(at, "/export");
}
