/** Runtimes, live: all of them, or one with its versions, endpoints and a box to invoke it. */
import { useState } from "preact/hooks";
import { runtimes, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { runtimeHref } from "../api/runtimes";
import { newTerminalHref } from "../api/sessions";
import type { RuntimeSummary } from "../api/types";
import { when } from "../components/format";
import { Badge, Empty, PageHead } from "../components/parts";
import { printable } from "../components/printable";
import { type Column, matches, TableView } from "../components/table";
import { href, route } from "../router";
import { RuntimePage } from "./runtime";
import { NewRuntimeDialog } from "./runtime_new";
import { abilities } from "./views";

/** The color of a state of a runtime or endpoint. */
export function statusTone(status: string): "ok" | "warn" | "danger" {
  if (status === "READY") return "ok";
  return status.endsWith("FAILED") ? "danger" : "warn";
}

const COLUMNS: readonly Column<RuntimeSummary>[] = [
  {
    label: "Runtime",
    head: true,
    sortBy: (runtime) => runtime.agentRuntimeName,
    cell: (runtime) => <a href={runtimeHref(runtime.agentRuntimeId)}>{runtime.agentRuntimeName}</a>,
  },
  {
    label: "Status",
    sortBy: (runtime) => runtime.status,
    cell: ({ status }) => <Badge tone={statusTone(status)} text={status} />,
  },
  { label: "Version", look: "num", cell: (runtime) => runtime.agentRuntimeVersion },
  {
    label: "Description",
    cell: ({ description }) => (
      <span class="clip wide" title={description}>
        {printable(description ?? "")}
      </span>
    ),
  },
  {
    label: "Updated",
    look: "nowrap",
    sortBy: (runtime) => String(runtime.lastUpdatedAt),
    cell: (runtime) => when(runtime.lastUpdatedAt),
  },
];

/** The page. */
export default function Runtimes(props: { readonly me: SignedIn }) {
  useTopics("runtimes", "sessions");
  const [, id] = route.value.path;
  if (id !== undefined) return <RuntimePage key={id} me={props.me} id={id} />;
  return <RuntimeList me={props.me} />;
}

function RuntimeList(props: { readonly me: SignedIn }) {
  const { features, role } = props.me;
  const { operate, administer } = abilities(role);
  const [making, setMaking] = useState(false);
  const all = runtimes.value;
  return (
    <>
      <PageHead title="Runtimes">
        {administer && (
          <button type="button" class="primary" onClick={() => setMaking(true)}>
            New runtime
          </button>
        )}
      </PageHead>
      {making && <NewRuntimeDialog me={props.me} onClose={() => setMaking(false)} />}
      <TableView
        of={all && [...all.values()]}
        noun="runtime"
        keyOf={(runtime) => runtime.agentRuntimeArn}
        columns={COLUMNS}
        sortedBy="Runtime"
        filter={{
          hint: "Filter by name or id",
          narrow: (all, text) =>
            all.filter((one) => matches(text, [one.agentRuntimeName, one.agentRuntimeId, one.description])),
        }}
        actions={({ agentRuntimeName }) => (
          <>
            {operate && (
              <a class="button small" href={newTerminalHref(agentRuntimeName)}>
                New terminal
              </a>
            )}
            {features.includes("logs") && (
              <a class="button small" href={href(["logs", agentRuntimeName, "DEFAULT"])}>
                Logs
              </a>
            )}
          </>
        )}
        empty={
          <Empty
            title="No runtimes yet"
            commands={["clamshell create hello --agent plain-http", "clamshell deploy ./hello"]}
          >
            <p class="muted">A runtime is an agent that this server hosts. Deploy a folder to make one:</p>
          </Empty>
        }
      />
    </>
  );
}
