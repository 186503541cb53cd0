import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../api/client";
import type { SignedIn } from "../api/me";
import type { RuntimeDetail, TerminalSettings } from "../api/runtimes";
import { problemOf } from "../components/fields";
import { fieldOf, NewRuntimeDialog, newRuntime } from "./runtime_new";
import { RuntimeTerminal, settingsOf, shellLine } from "./runtime_terminal";

const box = document.createElement("div");
let answer: (method: string, path: string) => Response;
let asked: { readonly method: string; readonly path: string; readonly body: unknown }[];

beforeEach(() => {
  document.body.append(box);
  asked = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    const body: unknown = init.body === undefined ? undefined : JSON.parse(String(init.body));
    asked.push({ method: init.method ?? "", path, body });
    return answer(init.method ?? "", path);
  });
});
afterEach(() => {
  render(null, box);
  box.remove();
  vi.unstubAllGlobals();
});

const formOf = (values: Readonly<Record<string, string | readonly string[]>>) => {
  const form = new FormData();
  for (const [name, value] of Object.entries(values)) {
    for (const one of typeof value === "string" ? [value] : value) form.append(name, one);
  }
  return form;
};

const field = (name: string) =>
  box.querySelector<HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement>(`#field-${name}`);

async function fill(name: string, value: string): Promise<void> {
  await act(() => {
    const control = field(name);
    if (control === null) throw new Error(`no field ${name}`);
    control.value = value;
    control.dispatchEvent(new Event("change", { bubbles: true }));
  });
}

async function submit(): Promise<void> {
  await act(() => {
    box.querySelector("form")?.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
  });
}

const said = (name: string) => box.querySelector(`#field-${name}-about [role=alert]`)?.textContent?.trim();

describe("a new runtime", () => {
  const basic = { name: " one ", role: "arn:role", network: "PUBLIC", protocol: "MCP" };

  it("is what the form says", () => {
    expect(
      newRuntime(formOf({ ...basic, kind: "image", image: "ghcr.io/a/b:1", location: "s3://x/y" })),
    ).toEqual({
      agentRuntimeName: "one",
      roleArn: "arn:role",
      agentRuntimeArtifact: { containerConfiguration: { containerUri: "ghcr.io/a/b:1" } },
      networkConfiguration: { networkMode: "PUBLIC" },
      protocolConfiguration: { serverProtocol: "MCP" },
    });
    const code = newRuntime(
      formOf({
        ...basic,
        kind: "code",
        description: "Looks",
        location: "s3://bucket/a/b.zip",
        runtime: "NODE_22",
        entryPoint: "run  agent.js",
        network: "VPC",
        subnets: "subnet-1, subnet-2",
        securityGroups: "sg-1",
      }),
    );
    expect(code).toMatchObject({
      description: "Looks",
      agentRuntimeArtifact: {
        codeConfiguration: {
          code: { s3: { bucket: "bucket", prefix: "a/b.zip" } },
          runtime: "NODE_22",
          entryPoint: ["run", "agent.js"],
        },
      },
      networkConfiguration: {
        networkMode: "VPC",
        networkModeConfig: { subnets: ["subnet-1", "subnet-2"], securityGroups: ["sg-1"] },
      },
    });
  });

  it("has what the server says beside the fields it is about", () => {
    expect(fieldOf("agentRuntimeArtifact.codeConfiguration.code.s3.bucket")).toBe("location");
    expect(fieldOf("networkConfiguration.networkModeConfig")).toBe("network");
    expect(fieldOf("roleArnOfAnother")).toBeUndefined();
    const wrong = (...fields: readonly (readonly [string, string])[]) =>
      new ApiError(
        400,
        "ValidationException",
        "all of it",
        undefined,
        undefined,
        fields.map(([name, message]) => ({ name, message })),
      );
    expect(problemOf(wrong(["roleArn", "a"], ["roleArn", "b"]), fieldOf)).toEqual({
      form: null,
      fields: { role: "a; b" },
    });
    expect(problemOf(wrong(["roleArn", "a"], ["tags", "c"]), fieldOf)).toEqual({
      form: "tags: c",
      fields: { role: "a" },
    });
    expect(problemOf(wrong(), fieldOf)).toEqual({ form: "all of it", fields: {} });
  });

  it("is asked for, refused field by field, and made", async () => {
    const me = { accountId: "123456789012", role: "admin" } as SignedIn;
    const fieldList = [
      { name: "agentRuntimeName", message: "Member must be shorter" },
      {
        name: "agentRuntimeArtifact.containerConfiguration.containerUri",
        message: "Member must be an image",
      },
    ];
    answer = () => Response.json({ message: "2 validation errors", fieldList }, { status: 400 });
    await act(() => render(<NewRuntimeDialog me={me} onClose={() => undefined} />, box));
    expect(field("role")?.value).toBe("arn:aws:iam::123456789012:role/clamshell-agent");
    expect([field("location"), field("subnets")]).toEqual([null, null]);
    await fill("kind", "code");
    await fill("network", "VPC");
    expect([field("image"), field("location") === null, field("subnets") === null]).toEqual([
      null,
      false,
      false,
    ]);
    await fill("kind", "image");
    await fill("network", "PUBLIC");
    await fill("name", "one");
    await fill("image", "host");
    await submit();
    await vi.waitFor(() => expect(said("name")).toBe("Member must be shorter"));
    expect(said("image")).toBe("Member must be an image");
    expect(field("name")?.getAttribute("aria-invalid")).toBe("true");
    expect(document.activeElement).toBe(field("name"));
    expect(field("name")?.value).toBe("one");
    answer = () => Response.json({ agentRuntimeId: "one-1234567890" }, { status: 202 });
    await submit();
    await vi.waitFor(() => expect(location.pathname).toBe("/console/runtimes/one-1234567890"));
    expect(asked.at(-1)).toMatchObject({ method: "PUT", path: "/runtimes/" });
  });
});

describe("the terminal of a runtime", () => {
  const runtime = { agentRuntimeId: "one-1", agentRuntimeName: "one" } as RuntimeDetail;
  const show = (settings: TerminalSettings | null, administer = true) =>
    act(() =>
      render(
        <RuntimeTerminal
          runtime={runtime}
          settings={settings}
          administer={administer}
          onChanged={() => undefined}
        />,
        box,
      ),
    );
  const button = (name: string) =>
    [...box.querySelectorAll("button")].find((one) => one.textContent === name);

  it("is a line for the shell or words, with secrets by their names", () => {
    expect(shellLine(["/bin/bash", "-lc", "a b"])).toBe("a b");
    expect(shellLine(["/bin/bash", "-lc", "a", "b"])).toBeNull();
    expect(shellLine(["claude"])).toBeNull();
    const line = { kind: "line", command: "exec claude\n", secret: ["A", "B"], workingDirectory: " /mnt " };
    expect(settingsOf(formOf({ ...line, appliesTo: "all" }))).toEqual({
      command: ["/bin/bash", "-lc", "exec claude\n"],
      secrets: ["A", "B"],
      workingDirectory: "/mnt",
      appliesTo: "all",
    });
    expect(settingsOf(formOf({ kind: "words", command: "/bin/echo\na b\n" }))).toEqual({
      command: ["/bin/echo", "a b"],
      secrets: [],
      appliesTo: "attach",
    });
  });

  it("shows no button to whoever may not change it", async () => {
    await show({ command: ["claude"], secrets: ["A"] }, false);
    expect(box.querySelector("code")?.textContent).toBe("claude");
    expect(box.querySelectorAll("button").length).toBe(0);
  });

  it("is changed, with the secrets that there are and one that is gone", async () => {
    answer = (method) =>
      method === "GET"
        ? Response.json({ secrets: [{ name: "KEY" }, { name: "OTHER" }] })
        : Response.json(
            { message: "m", fieldList: [{ name: "command", message: "too long" }] },
            { status: 400 },
          );
    await show({ command: ["/bin/bash", "-lc", "exec claude"], secrets: ["GONE", "KEY"] });
    await act(() => button("Edit terminal")?.click());
    await vi.waitFor(() => expect(box.querySelectorAll("[type=checkbox]").length).toBe(3));
    const boxes = [...box.querySelectorAll<HTMLInputElement>("[type=checkbox]")];
    expect(boxes.map((one) => [one.value, one.checked])).toEqual([
      ["KEY", true],
      ["OTHER", false],
      ["GONE", true],
    ]);
    expect(box.textContent).toContain("is not there any more");
    expect(field("command")?.value).toBe("exec claude");
    await submit();
    await vi.waitFor(() => expect(said("command")).toBe("too long"));
    expect(asked.at(-1)).toMatchObject({
      method: "PUT",
      path: "/clamshell/v1/runtimes/one-1/terminal",
      body: { command: ["/bin/bash", "-lc", "exec claude"], secrets: ["KEY", "GONE"], appliesTo: "attach" },
    });
  });
});
