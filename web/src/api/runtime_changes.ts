/** Calls that make runtimes, and that say what their terminals start. */
import { API, call } from "./client";
import type { TerminalSettings } from "./runtimes";

/** What a runtime is made of: the members of CreateAgentRuntime that the page asks for. */
export interface NewRuntime {
  readonly agentRuntimeName: string;
  readonly description?: string;
  readonly roleArn: string;
  readonly agentRuntimeArtifact:
    | { readonly containerConfiguration: { readonly containerUri: string } }
    | {
        readonly codeConfiguration: {
          readonly code: { readonly s3: { readonly bucket: string; readonly prefix: string } };
          readonly runtime: string;
          readonly entryPoint: readonly string[];
        };
      };
  readonly networkConfiguration: {
    readonly networkMode: string;
    readonly networkModeConfig?: {
      readonly subnets: readonly string[];
      readonly securityGroups: readonly string[];
    };
  };
  readonly protocolConfiguration: { readonly serverProtocol: string };
}

/** Begins to make a runtime; its id. That it is ready, or failed, is pushed. */
export async function createRuntime(of: NewRuntime): Promise<string> {
  const made = await call<{ agentRuntimeId: string }>("PUT", "/runtimes/", of);
  return made.agentRuntimeId;
}

const terminalPath = (id: string) => `${API}/runtimes/${encodeURIComponent(id)}/terminal`;

/** Says what new terminals of a runtime start. */
export function putTerminal(id: string, settings: TerminalSettings): Promise<unknown> {
  return call("PUT", terminalPath(id), settings);
}

/** New terminals start the login shell again. */
export function removeTerminal(id: string): Promise<unknown> {
  return call("DELETE", terminalPath(id));
}

/** Names of the secrets that there are; no call gives their values. */
export async function listSecretNames(signal?: AbortSignal): Promise<readonly string[]> {
  const found = await call<{ secrets?: readonly { name: string }[] }>(
    "GET",
    `${API}/secrets`,
    undefined,
    signal,
  );
  return (found.secrets ?? []).map((secret) => secret.name).sort();
}
