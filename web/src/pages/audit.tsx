/** The audit trail: who did what, live, and back as far as it is kept. */
import { useEffect, useState } from "preact/hooks";
import { API, call, queryOf } from "../api/client";
import { audit, learn, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { merge } from "../api/reducer";
import type { AuditRecord } from "../api/types";
import { NOTHING, when } from "../components/format";
import { Badge, Empty, PageHead } from "../components/parts";
import { printable } from "../components/printable";
import { type Column, matches, TableView } from "../components/table";
import { attempt } from "../components/toast";

/** Records of one look further back. */
const OLDER = 200;
/** The newest records come by themselves; where there are fewer, none is older. */
const SNAPSHOT = 100;
/** The page holds at most so many older ones. */
const OLDER_MAX = 20_000;

/** Longer values of details are cut in the table. */
const LONG_DETAIL = 120;

/** What a filter asks for. */
export interface AuditFilter {
  readonly text: string;
  readonly outcome: string;
}

/** Records that a filter lets through. */
export function filterRecords(records: readonly AuditRecord[], filter: AuditFilter): readonly AuditRecord[] {
  return records.filter((record) => {
    if (filter.outcome !== "" && record.outcome !== filter.outcome) return false;
    const { action, userName, principal, resource, sourceIp } = record;
    return matches(filter.text, [action, userName, principal, resource, sourceIp]);
  });
}

/** A detail in a line; nothing for an empty one. Method and path of the call say no more than the action does. */
export function detailText(detail: unknown): string {
  if (detail === undefined || detail === null || detail === "") return "";
  if (typeof detail !== "object") return printable(String(detail));
  const told = Object.entries(detail).filter(([name]) => name !== "method" && name !== "path");
  const words = told.map(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return `${name} ${text.length > LONG_DETAIL ? `${text.slice(0, LONG_DETAIL)}…` : text}`;
  });
  return printable(words.join(", "));
}

/** The page. */
export default function Audit(props: { readonly me: SignedIn }) {
  useTopics("audit");
  // In front of another endpoint nothing is pushed.
  const isAsked = props.me.mode === "web";
  const look = () => attempt(async () => learn("audit", await call("GET", `${API}/audit`)));
  useEffect(() => {
    if (isAsked) void look();
  }, [isAsked]);
  const [older, setOlder] = useState<readonly AuditRecord[]>([]);
  const [atEnd, setAtEnd] = useState(false);
  const [busy, setBusy] = useState(false);
  const live = audit.value;
  const all = merge(live ?? [], older, OLDER_MAX);

  const load = async () => {
    const before = all.at(-1)?.id;
    if (before === undefined) return;
    setBusy(true);
    await attempt(async () => {
      const query = queryOf({ before: String(before), limit: String(OLDER) });
      const answer = await call<{ records: AuditRecord[]; nextBefore?: unknown }>(
        "GET",
        `${API}/audit${query}`,
      );
      setOlder(merge(older, answer.records, OLDER_MAX));
      if (answer.records.length === 0 || answer.nextBefore == null) setAtEnd(true);
    });
    setBusy(false);
  };

  return (
    <>
      <PageHead title="Audit trail">
        {isAsked && (
          <button type="button" onClick={() => void look()}>
            Look again
          </button>
        )}
      </PageHead>
      <TableView
        of={live && all}
        noun="record"
        keyOf={(record) => String(record.id)}
        columns={COLUMNS}
        filter={{
          hint: "Filter by user, action, resource",
          choice: {
            label: "Outcome",
            options: [
              ["", "All outcomes"],
              ["allowed", "Allowed"],
              ["denied", "Denied"],
              ["failed", "Failed"],
            ],
          },
          narrow: (all, text, outcome) => filterRecords(all, { text, outcome }),
        }}
        empty={
          <Empty title="Nothing has happened yet" commands={["clamshell audit --follow"]}>
            <p class="muted">Every change, login and refusal appears here. From a command line:</p>
          </Empty>
        }
      />
      {live !== null && all.length >= SNAPSHOT && (
        <p class="load-more">
          <button type="button" disabled={busy || atEnd} onClick={() => void load()}>
            {atEnd ? "No older records" : busy ? "Loading…" : "Load older"}
          </button>
        </p>
      )}
    </>
  );
}

const COLUMNS: readonly Column<AuditRecord>[] = [
  {
    label: "Time",
    look: "nowrap",
    title: (record) => `Request ${record.requestId ?? NOTHING} ${JSON.stringify(record.detail ?? "")}`,
    cell: (record) => when(record.at),
  },
  {
    label: "Who",
    title: (record) => record.principal,
    cell: (record) => printable(record.userName || record.principal || "unknown"),
  },
  {
    label: "Action",
    head: true,
    cell: (record) => {
      const detail = detailText(record.detail);
      return (
        <span>
          <code>{printable(record.action)}</code>
          {detail !== "" && <span class="muted small detail">{detail}</span>}
        </span>
      );
    },
  },
  {
    label: "Resource",
    cell: ({ resource }) => (
      <span class="clip mono" title={resource}>
        {printable(shortResource(resource ?? ""))}
      </span>
    ),
  },
  {
    label: "Outcome",
    cell: ({ outcome, status }) => (
      <Badge
        tone={outcome === "allowed" ? "ok" : outcome === "denied" ? "danger" : "warn"}
        text={status ? `${outcome} ${status}` : outcome}
      />
    ),
  },
  {
    label: "From",
    look: "nowrap",
    cell: (record) => (
      <>
        {record.sourceIp ?? NOTHING} <span class="muted small">{record.via}</span>
      </>
    ),
  },
];

/** An ARN without what is the same in all of them. */
export function shortResource(arn: string): string {
  const parts = arn.split(":");
  return parts[0] === "arn" && parts.length > 5 ? parts.slice(5).join(":") : arn;
}
