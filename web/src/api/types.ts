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
  /** Of the compute that runs; null where the machine does not tell. */
  readonly cpuUsageUs?: number | null;
  readonly memoryBytes?: number | null;
  readonly pids?: number | null;
  /** Of all computes; null where it is not known, and then a note says why. */
  readonly cpuSeconds?: number | null;
  readonly memoryGbSeconds?: number | null;
  readonly cost?: { readonly amount: number; readonly currency: string } | null;
  readonly notes?: readonly string[];
  /** Only in the answer about one session; null when it could not be measured. */
  readonly workspaceBytes?: number | null;
  readonly workspaceLimitBytes?: number;
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
  /** The server chose the title: nobody has named the shell. */
  readonly isDefaultTitle?: boolean;
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

/** An entry of the list of runtimes. */
export interface RuntimeSummary {
  readonly agentRuntimeArn: string;
  readonly agentRuntimeId: string;
  readonly agentRuntimeName: string;
  readonly agentRuntimeVersion: string;
  readonly description?: string;
  readonly lastUpdatedAt: string | number;
  readonly status: string;
}

/** Who did what, and what came of it. */
export interface AuditRecord {
  readonly id: number | string;
  readonly at: string;
  readonly principal?: string;
  readonly userName?: string;
  readonly sourceIp?: string;
  readonly via?: "signature" | "cookie" | "share" | "token" | string;
  readonly action: string;
  readonly resource?: string;
  readonly outcome: "allowed" | "denied" | "failed" | string;
  readonly status?: number;
  readonly requestId?: string;
  readonly detail?: unknown;
}

export interface AccessKey {
  readonly accessKeyId: string;
  readonly userName: string;
  readonly status: "Active" | "Inactive";
  readonly createdAt: string;
  readonly lastUsedAt?: string;
  /** Only in the answer that made the key. */
  readonly secretAccessKey?: string;
}

export interface User {
  readonly userName: string;
  readonly arn: string;
  readonly description?: string;
  readonly createdAt: string;
  readonly policies: Readonly<Record<string, unknown>>;
}

export interface Login {
  readonly loginId: string;
  readonly userName: string;
  readonly createdAt: string;
  readonly lastUsedAt: string;
  readonly expiresAt: string;
  readonly sourceIp?: string;
  readonly userAgent?: string;
  readonly current: boolean;
}

/** What a part of the server needs of this machine. */
export interface Capability {
  readonly name: string;
  readonly available: boolean;
  readonly detail?: string;
  readonly hint?: string;
}

export interface Doctor {
  readonly reports: readonly {
    readonly driver: string;
    readonly usable: boolean;
    readonly capabilities: readonly Capability[];
  }[];
  readonly runtimes: readonly Capability[];
}

export interface FileEntry {
  readonly name: string;
  readonly kind: "file" | "directory" | "symlink" | "other";
  readonly bytes: number;
  readonly modifiedAt?: string;
  readonly mode?: string;
  /** The whole path in base64url, when it is no UTF-8: such names are shown with `%XX`. */
  readonly pathBase64?: string;
}

export interface Listing {
  readonly path: string;
  readonly entries: readonly FileEntry[];
  readonly truncated: boolean;
}
