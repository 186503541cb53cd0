/** What this server can do on its machine, and what would let it do more. */
import { API, call } from "../api/client";
import type { SignedIn } from "../api/me";
import type { Capability, Doctor } from "../api/types";
import { useLoad } from "../components/load";
import { Badge, Failed, Loading, PageHead } from "../components/parts";
import { Table } from "../components/table";

interface Server {
  readonly version: string;
  readonly driver: string;
}

/** The page. */
export default function DoctorPage(_props: { readonly me: SignedIn }) {
  const doctor = useLoad((signal) => call<Doctor>("GET", `${API}/doctor`, undefined, signal), []);
  const server = useLoad((signal) => call<Server>("GET", `${API}/server`, undefined, signal), []);
  const found = doctor.value;
  const driver = server.value?.driver;
  return (
    <>
      <PageHead title="Doctor">
        <button type="button" onClick={doctor.reload}>
          Look again
        </button>
      </PageHead>
      {doctor.failure !== null && <Failed text={doctor.failure} onRetry={doctor.reload} />}
      {found === undefined && doctor.failure === null && <Loading />}
      {found?.reports.map((report) => (
        <section key={report.driver} class="card flush">
          <div class="row card-head">
            <h2>{report.driver}</h2>
            <Badge tone={report.usable ? "ok" : "danger"} text={report.usable ? "usable" : "not usable"} />
            {report.driver === driver && <span class="muted">in use</span>}
          </div>
          <Capabilities of={report.capabilities} />
        </section>
      ))}
      {found !== undefined && (
        <section class="card flush">
          <div class="row card-head">
            <h2>Images of runtimes</h2>
          </div>
          {found.runtimes.length === 0 ? (
            <p class="loading">
              No runtime has its image on this machine. Those that are fetched from a registry are looked at
              when they start.
            </p>
          ) : (
            <Capabilities of={found.runtimes} />
          )}
        </section>
      )}
    </>
  );
}

function Capabilities(props: { readonly of: readonly Capability[] }) {
  return (
    <Table
      of={props.of}
      keyOf={(capability) => capability.name}
      columns={[
        { label: "What", head: true, cell: (capability) => capability.name },
        {
          label: "There",
          cell: ({ available }) => <Badge tone={available ? "ok" : "warn"} text={available ? "yes" : "no"} />,
        },
        { label: "Detail", cell: (capability) => capability.detail ?? "" },
        { label: "What helps", cell: ({ available, hint }) => (available ? "" : (hint ?? "")) },
      ]}
    />
  );
}
