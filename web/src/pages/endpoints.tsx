/** The endpoints of a runtime: which version each serves. */
import { useState } from "preact/hooks";
import type { Endpoint } from "../api/runtimes";
import { when } from "../components/format";
import { Badge } from "../components/parts";
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
  const [name, setName] = useState("");
  const [version, setVersion] = useState("");
  return (
    <div class="card flush">
      <table class="cards">
        <thead>
          <tr>
            <th scope="col">Endpoint</th>
            <th scope="col">Status</th>
            <th scope="col">Serves version</th>
            <th scope="col">Updated</th>
            <th scope="col">
              <span class="visually-hidden">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {props.endpoints.map((endpoint) => (
            <tr key={endpoint.name}>
              <th scope="row" data-label="Endpoint">
                {endpoint.name}
              </th>
              <td data-label="Status">
                <Badge tone={statusTone(endpoint.status)} text={endpoint.status} />
              </td>
              <td data-label="Serves version">
                {/* The endpoint DEFAULT always serves the newest version. */}
                {administer && endpoint.name !== "DEFAULT" ? (
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
                    {endpoint.liveVersion ?? "–"}
                    {endpoint.targetVersion !== endpoint.liveVersion && ` → ${endpoint.targetVersion}`}
                  </span>
                )}
              </td>
              <td class="nowrap" data-label="Updated">
                {when(endpoint.lastUpdatedAt)}
              </td>
              <td class="actions">
                {administer && endpoint.name !== "DEFAULT" && (
                  <button
                    type="button"
                    class="small danger"
                    onClick={() => void props.onDelete(endpoint.name)}
                  >
                    Delete
                  </button>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
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
