/** One runtime: what it runs, its versions and endpoints, and a box to invoke it. */
import { ApiError } from "../api/client";
import { runtimes } from "../api/events";
import type { SignedIn } from "../api/me";
import {
  createEndpoint,
  deleteEndpoint,
  deleteRuntime,
  getRuntime,
  getTerminal,
  listEndpoints,
  listTags,
  listVersions,
  type RuntimeDetail,
  type TerminalSettings,
  updateEndpoint,
} from "../api/runtimes";
import { newTerminalHref } from "../api/sessions";
import { ask } from "../components/dialog";
import { duration, NOTHING, when } from "../components/format";
import { useLoad } from "../components/load";
import { Badge, CopyButton, Facts, Failed, Loading, PageHead } from "../components/parts";
import { printable } from "../components/printable";
import { Table } from "../components/table";
import { attempt } from "../components/toast";
import { href, navigate } from "../router";
import { EndpointTable } from "./endpoints";
import { InvokeBox } from "./invoke/box";
import { RuntimeTerminal } from "./runtime_terminal";
import { statusTone } from "./runtimes";
import { abilities } from "./views";

/** What an artifact is, in a line. */
export function artifactText(artifact: RuntimeDetail["agentRuntimeArtifact"]): string {
  const code = artifact?.codeConfiguration;
  if (code !== undefined) {
    const s3 = code.code?.s3;
    return `${code.runtime}, ${code.entryPoint.join(" ")}${s3 === undefined ? "" : ` (s3://${s3.bucket}/${s3.prefix})`}`;
  }
  return artifact?.containerConfiguration?.containerUri ?? NOTHING;
}

/** The view of one runtime. */
export function RuntimePage(props: { readonly me: SignedIn; readonly id: string }) {
  const { me, id } = props;
  const can = abilities(me.role);
  // The push says that something changed; then everything of it is asked for anew.
  const pushed = [...(runtimes.value?.values() ?? [])].find((one) => one.agentRuntimeId === id);
  const stamp = `${pushed?.lastUpdatedAt}|${pushed?.status}|${pushed?.agentRuntimeVersion}`;
  const detail = useLoad((signal) => getRuntime(id, signal), [id, stamp]);
  const versions = useLoad((signal) => listVersions(id, signal), [id, stamp]);
  const endpoints = useLoad((signal) => listEndpoints(id, signal), [id, stamp]);
  const runtime = detail.value;
  const crumbs = [["Runtimes", href(["runtimes"])]] as const;

  if (runtime === undefined) {
    return (
      <>
        <PageHead title="Runtime" crumbs={crumbs} />
        {detail.failure === null ? <Loading /> : <Failed text={detail.failure} onRetry={detail.reload} />}
      </>
    );
  }
  const remove = async () => {
    const name = runtime.agentRuntimeName;
    const sure = await ask({
      title: "Delete the runtime?",
      text: "All its versions, endpoints, sessions and their files go with it.",
      action: "Delete",
      typed: name,
      danger: true,
    });
    if (sure && (await attempt(() => deleteRuntime(id), `${name} is being deleted`)))
      navigate(href(["runtimes"]));
  };
  const names = (endpoints.value ?? []).map((endpoint) => endpoint.name);
  return (
    <>
      <PageHead title={runtime.agentRuntimeName} crumbs={crumbs}>
        <span role="status">
          <Badge tone={statusTone(runtime.status)} text={runtime.status} />
        </span>
        {me.features.includes("logs") && (
          <a class="button" href={href(["logs", runtime.agentRuntimeName, "DEFAULT"])}>
            Logs
          </a>
        )}
        {can.operate && (
          <a class="button" href={newTerminalHref(runtime.agentRuntimeName)}>
            New terminal
          </a>
        )}
        {can.administer && (
          <button type="button" class="danger" onClick={() => void remove()}>
            Delete
          </button>
        )}
      </PageHead>
      {runtime.failureReason !== undefined && runtime.failureReason !== "" && (
        <p class="notice danger">{printable(runtime.failureReason)}</p>
      )}
      {can.operate && (
        <InvokeBox
          arn={runtime.agentRuntimeArn}
          endpoints={names.length === 0 ? ["DEFAULT"] : names}
          protocol={runtime.protocolConfiguration?.serverProtocol ?? "HTTP"}
        />
      )}
      <div class="grid">
        <About runtime={runtime} />
        <Details runtime={runtime} administer={can.administer} />
      </div>
      <h2>Endpoints</h2>
      {endpoints.failure !== null ? (
        <Failed text={endpoints.failure} onRetry={endpoints.reload} />
      ) : (
        <EndpointTable
          endpoints={endpoints.value ?? []}
          versions={(versions.value ?? []).map((version) => version.agentRuntimeVersion)}
          administer={can.administer}
          onCreate={async (name, version) => {
            if (await attempt(() => createEndpoint(id, name, version), `Endpoint ${name} was made`))
              endpoints.reload();
          }}
          onUpdate={async (name, version) => {
            const done = `Endpoint ${name} serves version ${version}`;
            if (await attempt(() => updateEndpoint(id, name, version), done)) endpoints.reload();
          }}
          onDelete={async (name) => {
            const question = {
              title: "Delete the endpoint?",
              text: `Calls to ${name} and its sessions end.`,
              action: "Delete",
              danger: true,
            };
            if (!(await ask(question))) return;
            if (await attempt(() => deleteEndpoint(id, name), `Endpoint ${name} was deleted`))
              endpoints.reload();
          }}
        />
      )}
      <h2>Versions</h2>
      <div class="table-wrap panel-scroll">
        <Table
          of={versions.value ?? []}
          keyOf={(version) => version.agentRuntimeVersion}
          columns={[
            { label: "Version", head: true, cell: (version) => version.agentRuntimeVersion },
            {
              label: "Status",
              cell: ({ status }) => <Badge tone={statusTone(status)} text={status} />,
            },
            { label: "Description", cell: (version) => printable(version.description ?? "") },
            { label: "Updated", look: "nowrap", cell: (version) => when(version.lastUpdatedAt) },
          ]}
        />
      </div>
    </>
  );
}

function About(props: { readonly runtime: RuntimeDetail }) {
  const { runtime } = props;
  const tags = useLoad((signal) => listTags(runtime.agentRuntimeArn, signal), [runtime.agentRuntimeArn]);
  const seconds = (value: number | undefined) => (value === undefined ? NOTHING : duration(value * 1000));
  const network = runtime.networkConfiguration?.networkMode;
  return (
    <section class="card" aria-label="About">
      <Facts
        of={[
          [
            "ARN",
            <span key="arn">
              <span class="mono">{runtime.agentRuntimeArn}</span>{" "}
              <CopyButton text={runtime.agentRuntimeArn} />
            </span>,
          ],
          ["Version", runtime.agentRuntimeVersion],
          ["Description", runtime.description === undefined ? undefined : printable(runtime.description)],
          [
            "Artifact",
            <span key="artifact" class="mono">
              {printable(artifactText(runtime.agentRuntimeArtifact))}
            </span>,
          ],
          ["Protocol", runtime.protocolConfiguration?.serverProtocol ?? "HTTP"],
          ["Network", network],
          ["Role", runtime.roleArn],
          ["Idle time-out", seconds(runtime.lifecycleConfiguration?.idleRuntimeSessionTimeout)],
          ["Longest life", seconds(runtime.lifecycleConfiguration?.maxLifetime)],
          ["Created", when(runtime.createdAt)],
          ["Updated", when(runtime.lastUpdatedAt)],
          ["Tags", <Pairs key="tags" of={tags.value ?? {}} />],
        ]}
      />
    </section>
  );
}

function Details(props: { readonly runtime: RuntimeDetail; readonly administer: boolean }) {
  const { runtime } = props;
  const terminal = useLoad(
    async (signal): Promise<TerminalSettings | null> => {
      try {
        return await getTerminal(runtime.agentRuntimeId, signal);
      } catch (cause) {
        // Most runtimes have none; and a role may not be allowed to see it.
        if (cause instanceof ApiError && [403, 404].includes(cause.status)) return null;
        throw cause;
      }
    },
    [runtime.agentRuntimeId],
  );
  const mounts = runtime.filesystemConfigurations ?? [];
  return (
    <section class="card" aria-label="Terminal and environment">
      <RuntimeTerminal
        runtime={runtime}
        settings={terminal.value}
        administer={props.administer}
        onChanged={terminal.reload}
      />
      <h2 class="later">Environment</h2>
      <Pairs of={runtime.environmentVariables ?? {}} />
      {mounts.length > 0 && (
        <>
          <h2 class="later">File systems</h2>
          <pre>{jsonLines(mounts)}</pre>
        </>
      )}
      {runtime.authorizerConfiguration != null && (
        <>
          <h2 class="later">Authorizer</h2>
          <pre>{jsonLines(runtime.authorizerConfiguration)}</pre>
        </>
      )}
    </section>
  );
}

/** JSON in lines; what hides in its texts is escaped by JSON itself, or written out. */
function jsonLines(value: unknown): string {
  return JSON.stringify(value, null, 2).split("\n").map(printable).join("\n");
}

function Pairs(props: { readonly of: Readonly<Record<string, string>> }) {
  const pairs = Object.entries(props.of);
  if (pairs.length === 0) return <span class="muted">{NOTHING}</span>;
  return (
    <ul class="plain-list mono">
      {pairs.map(([name, value]) => (
        <li key={name}>
          {printable(name)}={printable(value)}
        </li>
      ))}
    </ul>
  );
}
