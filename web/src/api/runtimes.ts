/** Calls on runtimes, their versions and endpoints: AWS's control plane, through the page's login. */
import { href } from "../router";
import { API, call, queryOf } from "./client";
import type { RuntimeSummary } from "./types";

/** Everything of a version of a runtime, as GetAgentRuntime has it; what the page does not show is left out. */
export interface RuntimeDetail {
  readonly agentRuntimeArn: string;
  readonly agentRuntimeId: string;
  readonly agentRuntimeName: string;
  readonly agentRuntimeVersion: string;
  readonly description?: string;
  readonly status: string;
  readonly failureReason?: string;
  readonly createdAt: string | number;
  readonly lastUpdatedAt: string | number;
  readonly roleArn?: string;
  readonly agentRuntimeArtifact?: {
    readonly containerConfiguration?: { readonly containerUri: string };
    readonly codeConfiguration?: {
      readonly code?: { readonly s3?: { readonly bucket: string; readonly prefix: string } };
      readonly entryPoint: readonly string[];
      readonly runtime: string;
    };
  };
  readonly networkConfiguration?: { readonly networkMode: string };
  readonly protocolConfiguration?: { readonly serverProtocol: string };
  readonly lifecycleConfiguration?: {
    readonly idleRuntimeSessionTimeout?: number;
    readonly maxLifetime?: number;
  };
  readonly environmentVariables?: Readonly<Record<string, string>>;
  readonly filesystemConfigurations?: readonly unknown[];
  readonly authorizerConfiguration?: unknown;
}

/** An endpoint of a runtime. */
export interface Endpoint {
  readonly agentRuntimeEndpointArn: string;
  readonly name: string;
  readonly status: string;
  readonly description?: string;
  readonly liveVersion?: string;
  readonly targetVersion?: string;
  readonly createdAt: string | number;
  readonly lastUpdatedAt: string | number;
}

/** What a new terminal of a runtime starts. */
export interface TerminalSettings {
  readonly command: readonly string[];
  readonly secrets?: readonly string[];
  readonly workingDirectory?: string;
  readonly appliesTo?: "attach" | "all";
}

const base = (id: string) => `/runtimes/${encodeURIComponent(id)}/`;
const endpointPath = (id: string, name: string) =>
  `${base(id)}runtime-endpoints/${encodeURIComponent(name)}/`;

/** Everything of the newest version. */
export function getRuntime(id: string, signal?: AbortSignal): Promise<RuntimeDetail> {
  return call("GET", base(id), undefined, signal);
}

/** All versions, newest first. */
export async function listVersions(id: string, signal?: AbortSignal): Promise<readonly RuntimeSummary[]> {
  const found = await pages<RuntimeSummary>(`${base(id)}versions/`, "agentRuntimes", signal);
  return found.sort((a, b) => Number(b.agentRuntimeVersion) - Number(a.agentRuntimeVersion));
}

/** All endpoints. */
export function listEndpoints(id: string, signal?: AbortSignal): Promise<readonly Endpoint[]> {
  return pages<Endpoint>(`${base(id)}runtime-endpoints/`, "runtimeEndpoints", signal);
}

/** Makes an endpoint that serves a version. */
export function createEndpoint(id: string, name: string, version: string): Promise<unknown> {
  return call("PUT", `${base(id)}runtime-endpoints/`, { name, agentRuntimeVersion: version });
}

/** Has an endpoint serve another version. */
export function updateEndpoint(id: string, name: string, version: string): Promise<unknown> {
  return call("PUT", endpointPath(id, name), { agentRuntimeVersion: version });
}

/** Removes an endpoint. */
export function deleteEndpoint(id: string, name: string): Promise<unknown> {
  return call("DELETE", endpointPath(id, name));
}

/** Removes a runtime with all its versions. */
export function deleteRuntime(id: string): Promise<unknown> {
  return call("DELETE", base(id));
}

/** Tags of a runtime. */
export async function listTags(arn: string, signal?: AbortSignal): Promise<Readonly<Record<string, string>>> {
  const found = await call<{ tags?: Record<string, string> }>(
    "GET",
    `/tags/${encodeURIComponent(arn)}`,
    undefined,
    signal,
  );
  return found.tags ?? {};
}

/** What new terminals start. */
export function getTerminal(id: string, signal?: AbortSignal): Promise<TerminalSettings> {
  return call("GET", `${API}/runtimes/${encodeURIComponent(id)}/terminal`, undefined, signal);
}

/** The address of the view of a runtime. */
export function runtimeHref(id: string): string {
  return href(["runtimes", id]);
}

/** Lists hold at most a thousand; a server that pages for ever is not followed for ever. */
const PAGES_MAX = 20;

async function pages<T>(path: string, list: string, signal?: AbortSignal): Promise<T[]> {
  const found: T[] = [];
  let token: string | undefined;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const query = queryOf({ maxResults: "100", ...(token === undefined ? {} : { nextToken: token }) });
    const answer = await call<Record<string, unknown>>("POST", path + query, undefined, signal);
    const items = answer[list];
    if (Array.isArray(items)) found.push(...(items as T[]));
    const { nextToken } = answer;
    if (typeof nextToken !== "string" || nextToken === "") break;
    token = nextToken;
  }
  return found;
}
