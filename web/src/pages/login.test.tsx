import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { me } from "../api/me";
import { LoginPage } from "./login";

const stranger = {
  signedIn: false,
  mode: "serve",
  methods: { password: true, oidc: { label: "<b>Example</b>" } },
} as const;
const box = document.createElement("div");
let answer: () => Response;
let asked: { readonly path: string; readonly body: unknown; readonly header: string | null }[];

beforeEach(() => {
  document.body.append(box);
  asked = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    const header = new Headers(init.headers).get("X-Clamshell-Console");
    asked.push({ path, body: JSON.parse(String(init.body)), header });
    return answer();
  });
});
afterEach(() => {
  render(null, box);
  box.remove();
  vi.unstubAllGlobals();
  me.value = null;
});

/** Waits until something holds. */
async function eventually(check: () => boolean): Promise<void> {
  await vi.waitFor(() => expect(check()).toBe(true), 2000);
}

function signIn(): void {
  const form = box.querySelector("form");
  for (const [name, value] of [
    ["userName", "ann"],
    ["password", "correct horse"],
  ] as const) {
    const input = form?.querySelector<HTMLInputElement>(`input[name=${name}]`);
    if (input) input.value = value;
  }
  form?.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
}

describe("the login page", () => {
  it("sends name and password, and says why it was refused", async () => {
    history.replaceState(null, "", "/console/login");
    answer = () => Response.json({ message: "Wrong user name, password or link" }, { status: 403 });
    render(<LoginPage me={stranger} />, box);
    signIn();
    await eventually(() => box.querySelector("[role=alert]") !== null);
    expect(box.querySelector("[role=alert]")?.textContent).toBe("Wrong user name, password or link");
    expect(asked.map((one) => one.body)).toEqual([{ userName: "ann", password: "correct horse" }]);
    expect(box.querySelector("button")?.disabled).toBe(false);
  });

  it("counts down while it is locked", async () => {
    answer = () => Response.json({ message: "x" }, { status: 429, headers: { "Retry-After": "90" } });
    render(<LoginPage me={stranger} />, box);
    signIn();
    await eventually(() => box.textContent?.includes("Too many attempts") === true);
    expect(box.querySelector("[role=alert]")?.textContent).toMatch(/Try again in 1m (30|29)s\./);
    expect(box.querySelector("button")?.disabled).toBe(true);
  });

  it("says why an earlier way in was none", () => {
    render(<LoginPage me={stranger} refusal="<b>Gone</b>" />, box);
    expect(box.querySelector("[role=alert]")?.textContent).toBe("<b>Gone</b>");
  });

  it("shows names from elsewhere as text", () => {
    render(<LoginPage me={stranger} />, box);
    expect(box.querySelector("a.button")?.textContent).toBe("Sign in with <b>Example</b>");
    expect(box.querySelector("a.button b")).toBeNull();
  });
});
