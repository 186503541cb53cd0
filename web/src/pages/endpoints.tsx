/** The endpoints of a runtime: which version each serves. */
import { useState } from "preact/hooks";
import type { Endpoint } from "../api/runtimes";
import { NOTHING, when } from "../components/format";
import { Badge } from "../components/parts";
import { Table } from "../components/table";
import { statusTone } from "./runtimes";

/** The table, and for administrators the ways to change it. */
export function EndpointTable(props: {
  readonly endpoints: readonly Endpoint[];
  readonly versions: readonly string[];
  readonly administer: boolean;
  readonly onCreate: (name: string, version: string) => Promise<void>;
  readonly onUpdate: (name: string, version: string) => Promise<void>;
  readonly onDelete: (name: string) => Promise<void>;
}) {
  const { versions, administer } = props;
  // The endpoint DEFAULT always serves the newest version.
  const isOurs = (endpoint: Endpoint) => administer && endpoint.name !== "DEFAULT";
  const [name, setName] = useState("");
  const [version, setVersion] = useState("");
  return (
    <div class="card flush">
      <Table
        of={props.endpoints}
        keyOf={(endpoint) => endpoint.name}
        columns={[
          { label: "Endpoint", head: true, cell: (endpoint) => endpoint.name },
          {
            label: "Status",
            cell: ({ status }) => <Badge tone={statusTone(status)} text={status} />,
          },
          {
            label: "Serves version",
            cell: (endpoint) =>
              isOurs(endpoint) ? (
                <select
                  aria-label={`Version of ${endpoint.name}`}
                  value={endpoint.targetVersion ?? endpoint.liveVersion}
                  onChange={(event) => void props.onUpdate(endpoint.name, event.currentTarget.value)}
                >
                  {versions.map((one) => (
                    <option key={one} value={one}>
                      {one}
                    </option>
                  ))}
                </select>
              ) : (
                <span>
                  {endpoint.liveVersion ?? NOTHING}
                  {endpoint.targetVersion !== endpoint.liveVersion && ` → ${endpoint.targetVersion}`}
                </span>
              ),
          },
          { label: "Updated", look: "nowrap", cell: (endpoint) => when(endpoint.lastUpdatedAt) },
        ]}
        actions={(endpoint) =>
          isOurs(endpoint) && (
            <button type="button" class="small danger" onClick={() => void props.onDelete(endpoint.name)}>
              Delete
            </button>
          )
        }
      />
      {administer && (
        <form
          class="row form-row"
          onSubmit={(event) => {
            event.preventDefault();
            void props.onCreate(name, version || (versions[0] ?? "1")).then(() => setName(""));
          }}
        >
          <input
            aria-label="Name of the new endpoint"
            placeholder="New endpoint"
            value={name}
            pattern="[a-zA-Z][a-zA-Z0-9_]{0,47}"
            title="A letter, then up to 47 letters, digits or underscores"
            required
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <select
            aria-label="Version of the new endpoint"
            value={version || versions[0]}
            onChange={(event) => setVersion(event.currentTarget.value)}
          >
            {versions.map((one) => (
              <option key={one} value={one}>
                Version {one}
              </option>
            ))}
          </select>
          <button type="submit" disabled={name === ""}>
            Create endpoint
          </button>
        </form>
      )}
    </div>
  );
}
