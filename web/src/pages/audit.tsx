/** The audit trail: who did what, live, and back as far as it is kept. */
import { useEffect, useState } from "preact/hooks";
import { API, call, queryOf } from "../api/client";
import { audit, learn, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { merge } from "../api/reducer";
import type { AuditRecord } from "../api/types";
import { when } from "../components/format";
import { Badge, Empty, Loading, PageHead } from "../components/parts";
import { printable } from "../components/printable";
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
  const wanted = filter.text.trim().toLowerCase();
  return records.filter((record) => {
    if (filter.outcome !== "" && record.outcome !== filter.outcome) return false;
    if (wanted === "") return true;
    const words = [record.action, record.userName, record.principal, record.resource, record.sourceIp];
    return words.some((word) => word?.toLowerCase().includes(wanted) === true);
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
  const [filter, setFilter] = useState<AuditFilter>({ text: "", outcome: "" });
  const live = audit.value;
  const all = merge(live ?? [], older, OLDER_MAX);
  const shown = filterRecords(all, filter);

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
      <search class="tools">
        <input
          type="search"
          aria-label="Filter records"
          placeholder="Filter by user, action, resource"
          value={filter.text}
          onInput={(event) => setFilter({ ...filter, text: event.currentTarget.value })}
        />
        <select
          aria-label="Outcome"
          value={filter.outcome}
          onChange={(event) => setFilter({ ...filter, outcome: event.currentTarget.value })}
        >
          <option value="">All outcomes</option>
          <option value="allowed">Allowed</option>
          <option value="denied">Denied</option>
          <option value="failed">Failed</option>
        </select>
        <span class="muted small">
          {shown.length} of {all.length} loaded
        </span>
      </search>
      {live === null ? (
        <Loading />
      ) : all.length === 0 ? (
        <Empty title="Nothing has happened yet" commands={["clamshell audit --follow"]}>
          <p class="muted">Every change, login and refusal appears here. From a command line:</p>
        </Empty>
      ) : (
        <div class="table-wrap">
          <table class="cards">
            <thead>
              <tr>
                <th scope="col">Time</th>
                <th scope="col">Who</th>
                <th scope="col">Action</th>
                <th scope="col">Resource</th>
                <th scope="col">Outcome</th>
                <th scope="col">From</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((record) => (
                <Row key={String(record.id)} record={record} />
              ))}
            </tbody>
          </table>
        </div>
      )}
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

function Row(props: { readonly record: AuditRecord }) {
  const { record } = props;
  const tone = record.outcome === "allowed" ? "ok" : record.outcome === "denied" ? "danger" : "warn";
  const detail = detailText(record.detail);
  return (
    <tr>
      <td
        class="nowrap"
        data-label="Time"
        title={`Request ${record.requestId ?? "–"} ${JSON.stringify(record.detail ?? "")}`}
      >
        {when(record.at)}
      </td>
      <td data-label="Who" title={record.principal}>
        {printable(record.userName || record.principal || "unknown")}
      </td>
      <th scope="row" data-label="Action">
        <span>
          <code>{printable(record.action)}</code>
          {detail !== "" && <span class="muted small detail">{detail}</span>}
        </span>
      </th>
      <td data-label="Resource">
        <span class="clip mono" title={record.resource}>
          {printable(shortResource(record.resource ?? ""))}
        </span>
      </td>
      <td data-label="Outcome">
        <Badge tone={tone} text={record.status ? `${record.outcome} ${record.status}` : record.outcome} />
      </td>
      <td class="nowrap" data-label="From">
        {record.sourceIp ?? "–"} <span class="muted small">{record.via}</span>
      </td>
    </tr>
  );
}

/** An ARN without what is the same in all of them. */
export function shortResource(arn: string): string {
  const parts = arn.split(":");
  return parts[0] === "arn" && parts.length > 5 ? parts.slice(5).join(":") : arn;
}
