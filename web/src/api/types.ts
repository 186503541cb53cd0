/** Shapes of the server's answers, as docs/api.md has them. Times are RFC 3339. */

/** Who is signed in here, or how to sign in. */
export type Me =
  | {
      readonly signedIn: false;
      readonly mode: Mode;
      readonly methods: { readonly password: boolean; readonly oidc: { readonly label: string } | null };
    }
  | {
      readonly signedIn: true;
      readonly mode: Mode;
      readonly userName: string;
      readonly arn: string;
      readonly role: "admin" | "operator" | "viewer" | null;
      readonly expiresAt: string;
      readonly serverVersion: string;
      readonly region: string;
      readonly accountId: string;
      readonly features: readonly Feature[];
    };

/** Who serves the page: the server itself, or `clamshell web` in front of an endpoint. */
export type Mode = "serve" | "web";

/** What the server behind the page can do. */
export type Feature =
  | "sessions"
  | "runtimes"
  | "files"
  | "audit"
  | "keys"
  | "doctor"
  | "shares"
  | "recordings"
  | "logs";

export interface Session {
  readonly runtimeArn: string;
  readonly runtimeName: string;
  readonly qualifier: string;
  readonly sessionId: string;
  readonly state: "Provisioning" | "Active" | "Idle" | "Stopping" | "Stopped";
  readonly runtimeVersion: string;
  readonly driver: string;
  readonly createdAt: string;
  readonly lastActivityAt: string;
  readonly startedAt?: string;
  readonly stoppedAt?: string;
  readonly stopReason?: string;
  readonly idleStopsAt?: string;
  readonly lifetimeEndsAt?: string;
  readonly storageRemovedAt?: string;
  readonly degraded?: readonly string[];
  readonly usage?: Usage;
}

export interface Usage {
  readonly cpuUsageUs: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly workspaceBytes: number;
  readonly workspaceLimitBytes: number;
  readonly overLimit?: boolean;
}

export interface Shell {
  readonly runtimeArn: string;
  readonly runtimeName: string;
  readonly qualifier: string;
  readonly sessionId: string;
  readonly shellId: string;
  readonly state: "Attached" | "Detached" | "Ended";
  readonly title?: string;
  readonly programTitle?: string;
  readonly pid?: number;
  readonly command: readonly string[];
  readonly cols: number;
  readonly rows: number;
  readonly createdAt: string;
  readonly lastOutputAt?: string;
  readonly startOffset: number;
  readonly runOffset: number;
  readonly endOffset: number;
  readonly writers: number;
  readonly watchers: number;
  readonly detachedAt?: string;
  readonly endedAt?: string;
  readonly exitCode?: number;
  readonly signal?: string;
  readonly endReason?: string;
}
