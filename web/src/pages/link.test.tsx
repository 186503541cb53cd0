import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { link, linkToken, startLinks, takeLink } from "../api/link";
import { me } from "../api/me";
import type { Me } from "../api/types";
import { LinkPage } from "./link";

const stranger: Me = { signedIn: false, mode: "serve", methods: { password: true, oidc: null } };
const box = document.createElement("div");
let answers: Record<string, () => Response>;
let asked: string[];

beforeEach(() => {
  document.body.append(box);
  asked = [];
  answers = {
    link: () => Response.json({ userName: "<b>ann</b>" }),
    login: () => Response.json(person("<b>ann</b>")),
  };
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    const name = path.split("/").at(-1) ?? "";
    asked.push(`${init.method} ${path} ${String(init.body)}`);
    return answers[name]?.() ?? Response.json(stranger);
  });
  history.replaceState(null, "", "/console/login#link=SECRET");
});
afterEach(() => {
  render(null, box);
  box.remove();
  vi.unstubAllGlobals();
  me.value = null;
  link.value = null;
});

const ASK = 'POST /clamshell/v1/console/link {"link":"SECRET"}';
const ENTER = 'POST /clamshell/v1/console/login {"link":"SECRET"}';

function person(userName: string): Extract<Me, { signedIn: true }> {
  const ends = "2027-01-01T00:00:00Z";
  const rest = { serverVersion: "1", region: "us-west-2", accountId: "123456789012", features: [] };
  return { signedIn: true, mode: "serve", userName, arn: "arn", role: "admin", expiresAt: ends, ...rest };
}

/** Waits until something holds. */
async function eventually(check: () => boolean): Promise<void> {
  await vi.waitFor(() => expect(check()).toBe(true), 2000);
}

function buttons(): (string | null)[] {
  return [...box.querySelectorAll("button")].map((button) => button.textContent);
}

function press(text: string): void {
  const found = [...box.querySelectorAll("button")].find((button) => button.textContent === text);
  expect(found).toBeDefined();
  found?.click();
}

describe("a link", () => {
  it("is taken out of the address at once, and out of no other address", () => {
    expect(linkToken("#link=abc-_1")).toBe("abc-_1");
    for (const none of ["", "#", "#link=", "#other=1"]) expect(linkToken(none), none).toBeNull();
    takeLink();
    expect([location.pathname, location.hash, link.value]).toEqual(["/console/login", "", "SECRET"]);
    link.value = null;
    history.replaceState(null, "", "/console/share#link=SHARED");
    takeLink();
    expect([location.hash, link.value]).toEqual(["#link=SHARED", null]);
  });

  it("is taken where the page is there already", () => {
    const stop = startLinks();
    dispatchEvent(new Event("hashchange"));
    expect([location.hash, link.value]).toEqual(["", "SECRET"]);
    stop();
  });

  it("signs in when a person says so, and not before", async () => {
    render(<LinkPage token="SECRET" me={stranger} />, box);
    await eventually(() => buttons().length === 2);
    expect(asked).toEqual([ASK]);
    expect(buttons()).toEqual(["Sign in as <b>ann</b> with this link", "Sign in as somebody else"]);
    expect(box.querySelector("b, .notice")).toBeNull();
    await eventually(() => document.activeElement?.textContent === "Sign in as <b>ann</b> with this link");
    press("Sign in as <b>ann</b> with this link");
    await eventually(() => me.value?.signedIn === true);
    expect(asked).toEqual([ASK, ENTER]);
    expect([link.value, location.pathname]).toEqual([null, "/console"]);
  });

  it("says who is signed in already, who can stay", async () => {
    link.value = "SECRET";
    render(<LinkPage token="SECRET" me={person("bob")} />, box);
    await eventually(() => box.querySelector(".notice") !== null);
    expect(box.querySelector(".notice")?.textContent).toBe(
      "You are signed in as bob in this browser. That login ends when you go on.",
    );
    press("Stay signed in as bob");
    expect([asked, link.value, location.pathname]).toEqual([[ASK], null, "/console"]);
    render(<LinkPage token="SECRET" me={person("<b>ann</b>")} />, box);
    await eventually(() => box.textContent?.includes("You are signed in as <b>ann</b> already.") === true);
    expect(box.querySelector(".notice")).toBeNull();
  });

  it("that is no good shows the other ways in, or stays where one is", async () => {
    answers["link"] = () => Response.json({ message: "x" }, { status: 403 });
    render(<LinkPage token="SECRET" me={stranger} />, box);
    await eventually(() => box.querySelector("[role=alert]") !== null);
    expect(box.querySelector("[role=alert]")?.textContent).toContain("This link was used already");
    expect(box.querySelector("input[name=password]")).not.toBeNull();
    render(<LinkPage token="OTHER" me={person("bob")} />, box);
    await eventually(() => box.querySelector("[role=alert]") !== null && box.querySelector("input") === null);
    expect(buttons()).toEqual(["Stay signed in as bob"]);
  });

  it("that was used meanwhile, or cannot be read just now, says so", async () => {
    answers["login"] = () => Response.json({ message: "x" }, { status: 403 });
    answers["link"] = () => Response.json({ message: "Too many" }, { status: 429 });
    render(<LinkPage token="SECRET" me={person("bob")} />, box);
    await eventually(() => box.querySelector("[role=alert]")?.textContent === "Too many");
    answers["link"] = () => Response.json({ userName: "ann" });
    press("Try again");
    await eventually(() => buttons().includes("Sign in as ann with this link"));
    press("Sign in as ann with this link");
    await eventually(() => box.querySelector("[role=alert]") !== null);
    expect(buttons()).toEqual(["Stay signed in as bob"]);
  });
});
