/** Making a runtime: what it runs, and as whom. The server checks, and whoever made it watches it become ready. */
import { useState } from "preact/hooks";
import type { SignedIn } from "../api/me";
import { createRuntime, type NewRuntime } from "../api/runtime_changes";
import { runtimeHref } from "../api/runtimes";
import { Dialog } from "../components/dialog";
import { Field, Form, NO_PROBLEM, problemOf } from "../components/fields";
import { note } from "../components/toast";
import { navigate } from "../router";

/** Interpreters of code, as AWS names them. */
const CODE_RUNTIMES = [
  "PYTHON_3_13",
  "PYTHON_3_14",
  "PYTHON_3_12",
  "PYTHON_3_11",
  "PYTHON_3_10",
  "NODE_22",
] as const;

const PROTOCOLS = ["HTTP", "MCP", "A2A", "AGUI"] as const;

/** Members of the call, by the field that gives them; a longer name comes before a shorter one that it begins with. */
const MEMBERS: readonly (readonly [member: string, field: string])[] = [
  ["agentRuntimeName", "name"],
  ["description", "description"],
  ["roleArn", "role"],
  ["agentRuntimeArtifact.containerConfiguration", "image"],
  ["agentRuntimeArtifact.codeConfiguration.code", "location"],
  ["agentRuntimeArtifact.codeConfiguration.entryPoint", "entryPoint"],
  ["agentRuntimeArtifact.codeConfiguration.runtime", "runtime"],
  ["networkConfiguration.networkModeConfig.subnets", "subnets"],
  ["networkConfiguration.networkModeConfig.securityGroups", "securityGroups"],
  ["networkConfiguration", "network"],
  ["protocolConfiguration", "protocol"],
];

/** The field of the form that a member of the call comes from. */
export function fieldOf(member: string): string | undefined {
  return MEMBERS.find(([name]) => member === name || member.startsWith(`${name}.`))?.[1];
}

/** Words of a line, as far as they are apart by spaces or commas. */
const words = (text: string) => text.split(/[\s,]+/).filter((word) => word !== "");

/** The call that a filled form stands for; what is wrong with it is the server's to say. */
export function newRuntime(form: FormData): NewRuntime {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const description = text("description");
  const location = /^s3:\/\/([^/]*)\/?(.*)$/.exec(text("location"));
  const network = text("network");
  return {
    agentRuntimeName: text("name"),
    ...(description === "" ? {} : { description }),
    roleArn: text("role"),
    agentRuntimeArtifact:
      text("kind") === "code"
        ? {
            codeConfiguration: {
              code: { s3: { bucket: location?.[1] ?? "", prefix: location?.[2] ?? text("location") } },
              runtime: text("runtime"),
              entryPoint: words(text("entryPoint")),
            },
          }
        : { containerConfiguration: { containerUri: text("image") } },
    networkConfiguration: {
      networkMode: network,
      ...(network === "VPC"
        ? {
            networkModeConfig: {
              subnets: words(text("subnets")),
              securityGroups: words(text("securityGroups")),
            },
          }
        : {}),
    },
    protocolConfiguration: { serverProtocol: text("protocol") },
  };
}

const PLAIN = { autocomplete: "off", autocapitalize: "none", spellcheck: false } as const;

/** The dialog that asks for all of it. */
export function NewRuntimeDialog(props: { readonly me: SignedIn; readonly onClose: () => void }) {
  const { me, onClose } = props;
  const [kind, setKind] = useState("image");
  const [network, setNetwork] = useState("PUBLIC");
  const [problem, setProblem] = useState(NO_PROBLEM);
  const create = async (form: FormData) => {
    try {
      const of = newRuntime(form);
      const id = await createRuntime(of);
      note(`${of.agentRuntimeName} is being made`);
      navigate(runtimeHref(id));
    } catch (cause) {
      setProblem(problemOf(cause, fieldOf));
    }
  };
  const shared = { problem };
  return (
    <Dialog title="New runtime" onClose={onClose}>
      <Form action="Create runtime" problem={problem} onCancel={onClose} onSubmit={create}>
        <Field
          {...shared}
          name="name"
          label="Name"
          hint="A letter, then letters, digits and _."
          control={(control) => <input {...control} {...PLAIN} required />}
        />
        <Field
          {...shared}
          name="description"
          label="Description"
          control={(control) => <input {...control} autocomplete="off" />}
        />
        <Field
          {...shared}
          name="kind"
          label="Runs"
          control={(control) => (
            <select {...control} value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
              <option value="image">an image</option>
              <option value="code">code of a zip in a bucket</option>
            </select>
          )}
        />
        {kind === "image" ? (
          <Field
            {...shared}
            name="image"
            label="Image"
            hint={
              <>
                A reference such as <code>ghcr.io/name/image:tag</code>. Where the server allows it, also of
                its own machine: <code>host</code>, <code>dir:/PATH</code>, <code>oci:/PATH</code>.
              </>
            }
            control={(control) => <input {...control} {...PLAIN} required />}
          />
        ) : (
          <>
            <Field
              {...shared}
              name="location"
              label="Zip"
              hint="Of a bucket of this server, or of one that its configuration names."
              control={(control) => (
                <input {...control} {...PLAIN} required placeholder="s3://BUCKET/FOLDER/agent.zip" />
              )}
            />
            <Field
              {...shared}
              name="runtime"
              label="Interpreter"
              control={(control) => (
                <select {...control}>
                  {CODE_RUNTIMES.map((one) => (
                    <option key={one}>{one}</option>
                  ))}
                </select>
              )}
            />
            <Field
              {...shared}
              name="entryPoint"
              label="Entry point"
              hint="The file in the zip, or a program of the zip and the file."
              control={(control) => <input {...control} {...PLAIN} required placeholder="agent.py" />}
            />
          </>
        )}
        <Field
          {...shared}
          name="protocol"
          label="Protocol"
          control={(control) => (
            <select {...control}>
              {PROTOCOLS.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          )}
        />
        <Field
          {...shared}
          name="role"
          label="Execution role"
          hint="Whose policies hold for what the agent itself calls."
          control={(control) => (
            <input
              {...control}
              {...PLAIN}
              required
              defaultValue={`arn:aws:iam::${me.accountId}:role/clamshell-agent`}
            />
          )}
        />
        <Field
          {...shared}
          name="network"
          label="Network mode"
          control={(control) => (
            <select {...control} value={network} onChange={(event) => setNetwork(event.currentTarget.value)}>
              <option>PUBLIC</option>
              <option>VPC</option>
            </select>
          )}
        />
        {network === "VPC" && (
          <>
            <Field
              {...shared}
              name="subnets"
              label="Subnets"
              control={(control) => <input {...control} {...PLAIN} required placeholder="subnet-…" />}
            />
            <Field
              {...shared}
              name="securityGroups"
              label="Security groups"
              control={(control) => <input {...control} {...PLAIN} required placeholder="sg-…" />}
            />
          </>
        )}
      </Form>
    </Dialog>
  );
}
