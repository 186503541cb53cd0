/** Signing in at a certified OpenID provider, and what happens when it, its clock or its people do something else. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { LACKING, skipped } from "./lacking";
import { fillForm, goToProvider, ID_TOKEN_S, NO_PROVIDER, Provider } from "./provider";
import { useStage } from "./stage";

const lacks =
  LACKING !== undefined ||
  (NO_PROVIDER !== undefined && skipped("sign-in at an OpenID provider", NO_PROVIDER));

const NOT_BEGUN = "This sign-in was not begun here, or took too long. Try again.";
const NOT_ACCEPTED = "The identity provider's answer was not accepted. Try again.";

describe.skipIf(lacks)("oidc", () => {
  let provider: Provider;
  let origin: string;
  beforeAll(async () => {
    provider = await Provider.start();
    provider.people["alice"] = { groups: ["dev"] };
  });
  const stage = useStage({ configuration: () => provider.configuration });
  beforeAll(() => {
    ({ origin } = stage.server);
    writeFileSync(join(stage.server.dataDir, "oidc-secret"), `${provider.secret}\n`);
  });
  beforeEach(() => {
    provider.reset();
    provider.serve(origin);
  });
  afterAll(() => provider?.stop());

  async function stranger(): Promise<Page> {
    return (await stage.browser.newContext()).newPage();
  }

  /** Signs in as far as it goes. */
  async function signIn(page: Page, name = "alice"): Promise<void> {
    await goToProvider(page, origin);
    await fillForm(page, name);
  }

  async function isIn(page: Page): Promise<{ userName: string; role: string }> {
    await page.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
    return page.evaluate(async () => {
      const me = await fetch("/clamshell/v1/console/me", { headers: { "X-Clamshell-Console": "1" } });
      const { userName, role } = (await me.json()) as { userName: string; role: string };
      return { userName, role };
    });
  }

  async function isRefused(page: Page, text: string): Promise<void> {
    await page.getByText(text).waitFor();
    expect(new URL(page.url()).pathname).toBe("/clamshell/v1/console/oidc/callback");
    await isOut(page);
  }

  /** Nobody is signed in, and the page shows the ways in. */
  async function isOut(page: Page): Promise<void> {
    const cookies = await page.context().cookies(origin);
    expect(cookies.map((cookie) => cookie.name)).not.toContain("__Host-clamshell");
    await page.getByRole("link", { name: "Go to the console" }).click();
    await page.getByRole("link", { name: "Sign in with Example" }).waitFor();
  }

  test("people sign in, and have the role that the provider says each time", async () => {
    const page = await stranger();
    await signIn(page);
    expect(await isIn(page)).toEqual({ userName: "alice", role: "operator" });
    const cookies = await page.context().cookies(origin);
    expect(cookies.map((cookie) => cookie.name)).toEqual(["__Host-clamshell"]);
    expect(page.url()).toBe(`${origin}/console`);
    // The provider still knows them: no form the second time, and another role.
    provider.people["alice"] = { groups: ["x", "ops"] };
    await page.context().clearCookies({ name: "__Host-clamshell" });
    await goToProvider(page, origin);
    expect(await isIn(page)).toEqual({ userName: "alice", role: "admin" });
    provider.people["alice"] = { groups: ["x"] };
    const other = await stranger();
    await signIn(other);
    await isRefused(other, "Your account at Example has no role here. Ask an administrator.");
    // Who has no role any more is signed out everywhere.
    await page.reload();
    await page.getByRole("link", { name: "Sign in with Example" }).waitFor();
    provider.people["alice"] = { groups: ["dev"] };
    for (const each of [page, other]) await each.context().close();
  });

  test("a provider that says all in the ID token", async () => {
    provider.serve(origin, { conformIdTokenClaims: false });
    const page = await stranger();
    await signIn(page);
    expect(await isIn(page)).toEqual({ userName: "alice", role: "operator" });
    await page.context().close();
  });

  test("a provider changes its keys", async () => {
    for (let round = 0; round < 3; round++) {
      const page = await stranger();
      await signIn(page);
      expect(await isIn(page)).toEqual({ userName: "alice", role: "operator" });
      await page.context().close();
      if (round < 2) provider.rotate();
    }
  });

  test("who cancels is not signed in, and can try again", async () => {
    const page = await stranger();
    await goToProvider(page, origin);
    await page.getByRole("link", { name: "Cancel" }).click();
    await isRefused(page, "The identity provider did not sign you in.");
    expect(await page.context().cookies(origin)).toEqual([]);
    await signIn(page);
    expect(await isIn(page)).toEqual({ userName: "alice", role: "operator" });
    await page.context().close();
  });

  test("another state or nonce than that of this browser", async () => {
    const page = await stranger();
    provider.onCallback = (url) => url.searchParams.set("state", "A".repeat(43));
    await signIn(page);
    await isRefused(page, NOT_BEGUN);
    for (const change of [
      (url: URL) => url.searchParams.set("iss", "https://other.example"),
      (url: URL) => url.searchParams.delete("iss"),
    ]) {
      provider.onCallback = change;
      await goToProvider(page, origin);
      await isRefused(page, NOT_BEGUN);
    }
    provider.reset();
    provider.onAsk = (url) => url.searchParams.set("nonce", "A".repeat(43));
    await goToProvider(page, origin);
    await isRefused(page, NOT_ACCEPTED);
    await page.context().close();
  });

  test("a code is good once, and for the browser that asked for it alone", async () => {
    const page = await stranger();
    await signIn(page);
    await isIn(page);
    const [used] = provider.callbacks;
    if (used === undefined) throw new Error("nobody came back");
    // The same address again: the flow has ended.
    const again = await page.context().newPage();
    await again.goto(used.href);
    await again.getByText(NOT_BEGUN).waitFor();
    // A code that is on its way to somebody else, and one that was used, in the flow of another browser.
    provider.onCallback = (url) => {
      url.pathname = "/console/nowhere";
    };
    const victim = await stranger();
    await signIn(victim);
    await victim.waitForURL(/nowhere/);
    const stolen = provider.callbacks.at(-1);
    provider.reset();
    for (const code of [stolen, used].map((url) => url?.searchParams.get("code") ?? "")) {
      expect(code).not.toBe("");
      const thief = await stranger();
      let state = "";
      provider.onAsk = (url) => {
        state = url.searchParams.get("state") ?? "";
      };
      await goToProvider(thief, origin);
      await thief.getByPlaceholder("Enter any login").waitFor();
      const query = new URLSearchParams({ code, state, iss: provider.issuer });
      await thief.goto(`${origin}/clamshell/v1/console/oidc/callback?${query}`);
      await isRefused(thief, NOT_ACCEPTED);
      await thief.context().close();
    }
    // Nor does an address that somebody sends sign anybody in as them.
    const sent = await stranger();
    await sent.goto(stolen?.href ?? "");
    await isRefused(sent, NOT_BEGUN);
    for (const each of [page, victim, sent]) await each.context().close();
  });

  test("clocks may differ by a minute, and an ID token that has expired is none", async () => {
    const page = await stranger();
    await signIn(page);
    await isIn(page);
    for (const [aheadS, isGood] of [
      [-(ID_TOKEN_S + 30), true],
      [-(ID_TOKEN_S + 90), false],
      [60, true],
    ] as const) {
      provider.aheadS = aheadS;
      await page.context().clearCookies({ name: "__Host-clamshell" });
      await goToProvider(page, origin);
      if (isGood) expect(await isIn(page)).toEqual({ userName: "alice", role: "operator" });
      else await isRefused(page, NOT_ACCEPTED);
    }
    await page.context().close();
  });

  test("a login link and a login of the provider take each other's place", async () => {
    const page = await stranger();
    await signIn(page);
    await isIn(page);
    await page.goto(`${origin}/console/login#link=${stage.server.linkToken()}`);
    await page.getByText("You are signed in as alice in this browser. That login ends").waitFor();
    await page.getByRole("button", { name: "Sign in as root with this link" }).click();
    expect(await isIn(page)).toEqual({ userName: "root", role: "admin" });
    await page.context().close();
  });
});
