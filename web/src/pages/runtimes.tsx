/** Runtimes, live: all of them, or one with its versions, endpoints and a box to invoke it. */
import { useState } from "preact/hooks";
import { runtimes, useTopics } from "../api/events";
import type { SignedIn } from "../api/me";
import { runtimeHref } from "../api/runtimes";
import { newTerminalHref } from "../api/sessions";
import { count, when } from "../components/format";
import { Badge, Empty, Loading, PageHead, type Sort, SortHead, sorted } from "../components/parts";
import { printable } from "../components/printable";
import { href, route } from "../router";
import { RuntimePage } from "./runtime";
import { abilities } from "./views";

/** The color of a state of a runtime or endpoint. */
export function statusTone(status: string): "ok" | "warn" | "danger" {
  if (status === "READY") return "ok";
  return status.endsWith("FAILED") ? "danger" : "warn";
}

/** The page. */
export default function Runtimes(props: { readonly me: SignedIn }) {
  useTopics("runtimes", "sessions");
  const [, id] = route.value.path;
  if (id !== undefined) return <RuntimePage key={id} me={props.me} id={id} />;
  return <RuntimeList me={props.me} />;
}

function RuntimeList(props: { readonly me: SignedIn }) {
  const [text, setText] = useState("");
  const [sort, setSort] = useState<Sort<"name" | "updated" | "status">>({ by: "name", down: false });
  const all = runtimes.value;
  const { operate } = abilities(props.me.role);
  const head = { sort, onSort: setSort };
  const wanted = text.trim().toLowerCase();
  const fits = [...(all?.values() ?? [])].filter((runtime) =>
    [runtime.agentRuntimeName, runtime.agentRuntimeId, runtime.description ?? ""].some((word) =>
      word.toLowerCase().includes(wanted),
    ),
  );
  const shown = sorted(
    fits,
    (runtime) =>
      sort.by === "name"
        ? runtime.agentRuntimeName
        : sort.by === "status"
          ? runtime.status
          : String(runtime.lastUpdatedAt),
    sort.down,
  );
  return (
    <>
      <PageHead title="Runtimes" />
      {all === null ? (
        <Loading />
      ) : all.size === 0 ? (
        <Empty
          title="No runtimes yet"
          commands={["clamshell create hello --agent plain-http", "clamshell deploy ./hello"]}
        >
          <p class="muted">A runtime is an agent that this server hosts. Deploy a folder to make one:</p>
        </Empty>
      ) : (
        <>
          <search class="tools">
            <input
              type="search"
              aria-label="Filter runtimes"
              placeholder="Filter by name or id"
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
            <span class="muted small" role="status">
              {count(shown.length, "runtime")}
            </span>
          </search>
          <div class="table-wrap">
            <table class="cards">
              <thead>
                <tr>
                  <SortHead by="name" {...head}>
                    Runtime
                  </SortHead>
                  <SortHead by="status" {...head}>
                    Status
                  </SortHead>
                  <th scope="col" class="num">
                    Version
                  </th>
                  <th scope="col">Description</th>
                  <SortHead by="updated" {...head}>
                    Updated
                  </SortHead>
                  <th scope="col">
                    <span class="visually-hidden">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {shown.map((runtime) => (
                  <tr key={runtime.agentRuntimeArn}>
                    <th scope="row" data-label="Runtime">
                      <a href={runtimeHref(runtime.agentRuntimeId)}>{runtime.agentRuntimeName}</a>
                    </th>
                    <td data-label="Status">
                      <Badge tone={statusTone(runtime.status)} text={runtime.status} />
                    </td>
                    <td class="num" data-label="Version">
                      {runtime.agentRuntimeVersion}
                    </td>
                    <td data-label="Description">
                      <span class="clip wide" title={runtime.description}>
                        {printable(runtime.description ?? "")}
                      </span>
                    </td>
                    <td class="nowrap" data-label="Updated">
                      {when(runtime.lastUpdatedAt)}
                    </td>
                    <td class="actions">
                      {operate && (
                        <a class="button small" href={newTerminalHref(runtime.agentRuntimeName)}>
                          New terminal
                        </a>
                      )}
                      {props.me.features.includes("logs") && (
                        <a class="button small" href={href(["logs", runtime.agentRuntimeName, "DEFAULT"])}>
                          Logs
                        </a>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </>
      )}
    </>
  );
}
