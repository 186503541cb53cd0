/** A certified OpenID provider (`oidc-provider`) on this machine, as far as a test can make one misbehave. */
import { AsyncLocalStorage } from "node:async_hooks";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { createServer, type Server as Listener, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Page } from "playwright-core";
import { CLIENTS } from "./lacking";

const LIBRARY = join(CLIENTS, "oidc/node_modules/oidc-provider/lib/index.js");

/** Why there is none here; `undefined` when there is. */
export const NO_PROVIDER = existsSync(LIBRARY)
  ? undefined
  : "oidc-provider is not installed (run scripts/test)";

/** Our client there. */
const CLIENT = { client_id: "clamshell", client_secret: "a+secret/with signs:&=%" };

/** Seconds for which its ID tokens are good. */
export const ID_TOKEN_S = 60;

/** What this uses of the package. */
interface Library {
  readonly Provider: new (issuer: string, configuration: object) => { callback(): RequestListener };
}

/** How far the clock is off for what runs within. */
const skew = new AsyncLocalStorage<number>();
const now = Date.now;

/** The provider. It has no configuration of a client until the server that is one runs. */
export class Provider {
  /** What it says of its people besides their name. */
  readonly people: Record<string, Record<string, unknown>> = {};
  /** Addresses that browsers were sent back to, oldest first. */
  readonly callbacks: URL[] = [];
  /** Changes what a browser asks for. */
  onAsk: (url: URL) => void = () => undefined;
  /** Changes where a browser is sent back to. */
  onCallback: (url: URL) => void = () => undefined;
  /** Seconds by which its clock is ahead when it makes tokens. */
  aheadS = 0;
  #handler: RequestListener | undefined;
  #client: { redirect: string; more: object } | undefined;
  #key = newKey();

  private constructor(
    readonly listener: Listener,
    readonly library: Library,
  ) {
    listener.on("request", (request, response) => {
      const url = new URL(request.url ?? "/", this.issuer);
      if (url.pathname === "/auth") this.onAsk(url);
      request.url = url.pathname + url.search;
      const set = response.setHeader.bind(response);
      response.setHeader = (name, value) =>
        set(name, name.toLowerCase() === "location" ? this.#sendBack(String(value)) : value);
      const offMs = url.pathname === "/token" ? this.aheadS * 1000 : 0;
      skew.run(offMs, () => this.#handler?.(request, response));
    });
  }

  static async start(): Promise<Provider> {
    Date.now = () => now() + (skew.getStore() ?? 0);
    const library = (await import(/* @vite-ignore */ pathToFileURL(LIBRARY).href)) as Library;
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    return new Provider(listener, library);
  }

  /** Another host than that of the server under test, as in real life: the browser takes them for two sites. */
  get issuer(): string {
    return `http://localhost:${(this.listener.address() as AddressInfo).port}`;
  }

  /** Configuration of a server whose people sign in here. */
  get configuration(): string {
    return `[console.oidc]
issuer = "${this.issuer}"
client_id = "${CLIENT.client_id}"
client_secret_file = "oidc-secret"
label = "Example"
scopes = ["openid", "profile", "groups"]
role_claim = "groups"
roles = { dev = "operator", ops = "admin" }
`;
  }

  /** The client's secret. */
  get secret(): string {
    return CLIENT.client_secret;
  }

  /** Takes a server for the client. `more` is configuration of the package. */
  serve(origin: string, more: object = {}): void {
    this.#client = { redirect: `${origin}/clamshell/v1/console/oidc/callback`, more };
    this.#begin();
  }

  /** Has another key from now on, and the old one no more. */
  rotate(): void {
    this.#key = newKey();
    this.#begin();
  }

  #begin(): void {
    if (this.#client === undefined) throw new Error("there is no client yet");
    const made = new this.library.Provider(this.issuer, {
      clients: [{ ...CLIENT, redirect_uris: [this.#client.redirect] }],
      cookies: { keys: ["one of this test"] },
      jwks: { keys: [this.#key] },
      claims: { openid: ["sub"], profile: ["preferred_username"], groups: ["groups"] },
      // Longer than the clocks of these tests are off.
      ttl: { IdToken: ID_TOKEN_S, AuthorizationCode: 600, AccessToken: 3600 },
      findAccount: (_: unknown, sub: string) => ({
        accountId: sub,
        claims: () => ({ sub, preferred_username: sub, ...this.people[sub] }),
      }),
      ...this.#client.more,
    });
    this.#handler = made.callback();
  }

  #sendBack(location: string): string {
    if (this.#client === undefined || !location.startsWith(this.#client.redirect)) return location;
    const url = new URL(location);
    this.callbacks.push(new URL(url));
    this.onCallback(url);
    return url.href;
  }

  /** Behaves itself again. */
  reset(): void {
    this.onAsk = () => undefined;
    this.onCallback = () => undefined;
    this.aheadS = 0;
    this.callbacks.length = 0;
  }

  async stop(): Promise<void> {
    Date.now = now;
    this.listener.closeAllConnections();
    await new Promise((resolve) => this.listener.close(resolve));
  }
}

function newKey(): object {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
}

/** From the page of the server to the form of the provider. */
export async function goToProvider(page: Page, origin: string): Promise<void> {
  // The form asks for a font of elsewhere.
  await page.route(/^https:/, (route) => route.abort());
  await page.goto(`${origin}/console`);
  await page.getByRole("link", { name: "Sign in with Example" }).click();
}

/** Fills the provider's form, and agrees. */
export async function fillForm(page: Page, name: string): Promise<void> {
  await page.getByPlaceholder("Enter any login").fill(name);
  await page.getByPlaceholder("and password").fill("any");
  await page.getByRole("button", { name: "Sign-in" }).click();
  await page.getByRole("button", { name: "Continue" }).click();
}
