/** What pages of others, thieves of cookies and senders of nonsense reach: nothing. */
import { execFileSync } from "node:child_process";
import { request } from "node:http";
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { writes } from "./routes";
import type { Api, Server } from "./server";
import { useStage } from "./stage";
import { forge, Stranger, upgrade } from "./stranger";
import type { Terminal } from "./terminal";
import { until } from "./until";

/** A name that an attacker points at this machine. */
const EVIL = "evil.test";

/** The status of a request of a page of `origin` for its own site, when that is this server's address. */
function sentAs(
  origin: string,
  port: number,
  method: string,
  path: string,
  body: string,
  more: Record<string, string> = {},
): Promise<number> {
  const headers = {
    ...more,
    host: new URL(origin).host,
    origin,
    "sec-fetch-site": "same-origin",
    "x-clamshell-console": "1",
    "content-type": "application/json",
    cookie: `__Host-clamshell=${"A".repeat(43)}`,
  };
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, method, path, headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

describe.skipIf(LACKING)("attacks", () => {
  const stage = useStage({ flags: [`--host-resolver-rules=MAP ${EVIL} 127.0.0.1`] });
  let stranger: Stranger;
  let server: Server;
  let api: Api;
  let context: BrowserContext;
  let page: Page;
  let terminal: Terminal;
  let attach: string;

  beforeAll(async () => {
    ({ server, api } = stage);
    stranger = await Stranger.start();
    ({ context, page, terminal } = await stage.open());
    attach = `/clamshell/v1/sessions/${terminal.session}/shells/${terminal.shell}/attach`;
  });
  afterAll(async () => {
    await stranger?.stop();
  });

  /** A window of the person who is signed in, at a page of somebody else. */
  async function elsewhere(host: string): Promise<Page> {
    const other = await context.newPage();
    await other.goto(`http://${host}:${stranger.port}/`);
    return other;
  }

  test("WebSockets of pages of other origins are refused, and those of our own are not", async () => {
    const before = await terminal.info();
    // 127.0.0.1 with another port is the same site: the browser sends the cookie along.
    for (const host of ["127.0.0.1", "localhost", EVIL]) {
      const other = await elsewhere(host);
      for (const name of ["127.0.0.1", "localhost"]) {
        for (const query of ["", "?access=watch", "?create=true", "?takeover=true"]) {
          const url = `ws://${name}:${server.port}${attach}${query}`;
          expect(await upgrade(other, url), `${host} to ${url}`).toBe("refused");
        }
      }
      await other.close();
    }
    expect((await terminal.info()).writers).toBe(before.writers);
    await terminal.is("live");
    expect(await upgrade(page, `ws://127.0.0.1:${server.port}${attach}?access=watch`)).toBe("open");
  });

  test("a host name that was pointed at this server is refused (rebinding)", async () => {
    const other = await context.newPage();
    const origin = `http://${EVIL}:${server.port}`;
    for (const path of ["/console", "/console/", "/", "/clamshell/v1/console/me"]) {
      const response = await other.goto(`${origin}${path}`);
      expect(response?.status(), path).toBeGreaterThanOrEqual(400);
      expect(await other.content(), path).not.toContain('id="app"');
    }
    await other.close();
    // What a browser sends for the attacker's own page, from before the name was pointed here.
    const sent = [
      ["POST", "/clamshell/v1/console/login", JSON.stringify({ link: server.linkToken() })],
      ["GET", "/clamshell/v1/sessions", ""],
      ["GET", "/clamshell/v1/events?topics=sessions", ""],
    ] as const;
    for (const [method, path, body] of sent) {
      expect(await sentAs(origin, server.port, method, path, body), path).toBe(403);
    }
    const handshake = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    };
    expect(await sentAs(origin, server.port, "GET", attach, "", handshake)).toBe(403);
  });

  test("a stolen cookie is worth nothing after its owner signed out", async () => {
    const victim = await server.login();
    expect((await victim.ask("GET", "/clamshell/v1/sessions")).status).toBe(200);
    await victim.call("POST", "/console/logout");
    expect((await victim.ask("GET", "/clamshell/v1/sessions")).status).toBe(401);
    const thief = await stage.window(victim);
    await thief.page.goto(`${server.origin}/console/terminal?session=${terminal.session}`);
    await thief.page.locator(".login-card").waitFor();
    expect(await upgrade(thief.page, `ws://127.0.0.1:${server.port}${attach}`)).toBe("refused");
  });

  test("a login that another one removed, and a made-up cookie, are worth nothing", async () => {
    const victim = await server.login();
    const { logins } = await victim.call<{ logins: { loginId: string; current: boolean }[] }>(
      "GET",
      "/console/logins",
    );
    const own = logins.find((login) => login.current);
    await api.call("DELETE", `/console/logins/${own?.loginId}`);
    expect((await victim.ask("GET", "/clamshell/v1/sessions")).status).toBe(401);
    for (const value of ["", "x", "A".repeat(43), "../".repeat(100), "%00"]) {
      const response = await fetch(`${server.origin}/clamshell/v1/sessions`, {
        headers: { Cookie: `__Host-clamshell=${value}`, "X-Clamshell-Console": "1" },
      });
      expect([400, 401, 403], value).toContain(response.status);
    }
  });

  test("a cookie that was kept too long is worth nothing", async () => {
    const late = await server.login();
    const { page } = await stage.window(late);
    await page.goto(`${server.origin}/console/sessions`);
    await page.getByRole("navigation", { name: "Views" }).waitFor({ state: "attached" });
    const { logins } = await late.call<{ logins: { loginId: string; current: boolean }[] }>(
      "GET",
      "/console/logins",
    );
    const id = logins.find((login) => login.current)?.loginId ?? "";
    // Twelve hours without use, in a moment.
    await server.stop();
    const change = [
      "import sqlite3, sys",
      "db = sqlite3.connect(sys.argv[1])",
      "hours = 13 * 3600 * 1000",
      "times = 'last_used_at_ms = last_used_at_ms - ?, created_at_ms = created_at_ms - ?, expires_at_ms = expires_at_ms - ?'",
      "done = db.execute(f'UPDATE console_logins SET {times} WHERE login_id = ?', (hours, hours, hours, sys.argv[2]))",
      "assert done.rowcount == 1",
      "db.commit()",
    ];
    execFileSync("python3", ["-c", change.join("\n"), join(server.dataDir, "clamshell.db"), id]);
    await server.start();
    expect((await late.ask("GET", "/clamshell/v1/sessions")).status).toBe(401);
    await page.goto(`${server.origin}/console/sessions`);
    await page.locator(".login-card").waitFor();
    expect(await upgrade(page, `ws://127.0.0.1:${server.port}${attach}`)).toBe("refused");
    // Whose login is fresh is here again.
    expect((await api.ask("GET", "/clamshell/v1/sessions")).status).toBe(200);
    await terminal.is("live");
  });

  const routes = LACKING === undefined ? writes() : [];
  test(`no page of others writes through any of ${routes.length} calls (CSRF)`, {
    timeout: 240_000,
  }, async () => {
    expect(routes.length).toBeGreaterThan(60);
    const names = async () => ({
      users: await api.call("GET", "/users"),
      roles: await api.call("GET", "/roles"),
      keys: await api.call("GET", "/keys"),
      secrets: await api.call("GET", "/secrets"),
      logins: (await api.call<{ logins: unknown[] }>("GET", "/console/logins")).logins.length,
      shells: (await api.shells(terminal.session)).length,
      state: (await terminal.info()).state,
    });
    const before = await names();
    const values: Record<string, string> = {
      sessionId: terminal.session,
      shellId: terminal.shell,
      runtime: "default",
      userName: "root",
      secretName: "FORGED",
    };
    let sent = 0;
    // The cookie goes along from the first, which is the same site, and not from the second.
    for (const host of ["127.0.0.1", "localhost"]) {
      const other = await elsewhere(host);
      const devtools = await context.newCDPSession(other);
      await devtools.send("Network.enable");
      const answers: { status: number; url: string }[] = [];
      const withCookie = new Set<string>();
      devtools.on("Network.responseReceived", ({ response, type }) => {
        // Whoever signs may call from any page; a permission to ask is none to be heard.
        if (type !== "Preflight" && response.url.startsWith(server.origin)) answers.push(response);
      });
      devtools.on("Network.requestWillBeSentExtraInfo", ({ headers, associatedCookies }) => {
        const isSent = associatedCookies.some(({ blockedReasons }) => blockedReasons.length === 0);
        if (isSent) withCookie.add(String(headers[":path"] ?? headers["Host"] ?? ""));
      });
      for (const route of routes) {
        const path = route.path.replaceAll(/\{(\w+)\+?\}/g, (_, name: string) => values[name] ?? "forged");
        const ways = route.method === "POST" ? ["simple", "text form", "form", "preflight"] : ["preflight"];
        for (const way of ways) {
          const result = await forge(other, server.origin, { way, method: route.method, path });
          expect(["sent", "refused"], `${way} ${route.method} ${path}`).toContain(result);
          sent += result === "sent" ? 1 : 0;
        }
      }
      const let_in = answers.filter(({ status }) => ![401, 403, 404, 405].includes(status));
      // What a frame loads is shown as a document of the refusal; none is anything else.
      expect(let_in.map(({ status, url }) => `${status} ${url}`)).toEqual([]);
      if (host === "127.0.0.1") expect(withCookie.size, "the cookie went along").toBeGreaterThan(0);
      await other.close();
    }
    expect(sent).toBeGreaterThan(40);
    expect(await names()).toEqual(before);
    await terminal.is("live");
  });

  test("no page of others can read, nor sign anybody in", async () => {
    const other = await elsewhere("127.0.0.1");
    const reads = ["/console/me", "/sessions", "/secrets", "/keys", "/events?topics=sessions", "/audit"];
    const read = await other.evaluate(
      async ({ origin, reads }) => {
        const found: string[] = [];
        for (const path of reads) {
          for (const init of [{}, { credentials: "include" }] as RequestInit[]) {
            try {
              const response = await fetch(`${origin}/clamshell/v1${path}`, init);
              // Nobody is signed in there.
              if (path === "/console/me" && (await response.clone().text()).includes('"signedIn":false'))
                continue;
              if (response.ok) found.push(`${path}: ${(await response.text()).slice(0, 100)}`);
            } catch {
              // Refused, as it must be.
            }
          }
        }
        return found;
      },
      { origin: server.origin, reads },
    );
    expect(read).toEqual([]);
    const token = server.linkToken();
    const forged = await forge(other, server.origin, {
      way: "text form",
      method: "POST",
      path: "/clamshell/v1/console/login",
    });
    expect(forged).toBe("sent");
    // The link is not spent either.
    const response = await fetch(`${server.origin}/clamshell/v1/console/login`, {
      method: "POST",
      headers: { Origin: `http://127.0.0.1:${stranger.port}`, "X-Clamshell-Console": "1" },
      body: JSON.stringify({ link: token }),
    });
    expect(response.status).toBe(403);
    await other.close();
  });

  test("the page cannot be framed", async () => {
    const other = await elsewhere("127.0.0.1");
    const complaint = other.waitForEvent("console", (message) => message.text().includes("frame-ancestors"));
    await other.evaluate((url) => {
      const frame = document.createElement("iframe");
      frame.src = url;
      document.body.append(frame);
    }, `${server.origin}/console`);
    await complaint;
    const framed = other.frames().find((frame) => frame !== other.mainFrame());
    expect(await framed?.locator("#app").count()).toBe(0);
    const headers = (await fetch(`${server.origin}/console`)).headers;
    expect(headers.get("x-frame-options")).toBe("DENY");
    expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    expect(headers.get("content-security-policy")).not.toMatch(/script-src[^;]*'unsafe-/);
    await other.close();
  });

  test("oversized and senseless frames end their own connection and nothing else", async () => {
    const url = `ws://127.0.0.1:${server.port}${attach}`;
    for (const kind of ["huge", "text", "empty", "unknown", "wild size", "wild count"]) {
      const code = await page.evaluate(
        ({ url, kind }) =>
          new Promise<number>((resolve) => {
            const socket = new WebSocket(url, ["clamshell.v1"]);
            socket.onclose = (event) => resolve(event.code);
            socket.onopen = () => {
              const text = new TextEncoder();
              if (kind === "huge") socket.send(new Uint8Array(8 * 1024 * 1024));
              if (kind === "text") socket.send("text is no frame");
              if (kind === "empty") socket.send(new Uint8Array(0));
              if (kind === "unknown") socket.send(Uint8Array.of(0x77, 1, 2, 3));
              if (kind === "wild size") {
                socket.send(Uint8Array.of(4, ...text.encode('{"width":99999999,"height":-1}')));
              }
              if (kind === "wild count")
                socket.send(Uint8Array.of(6, ...Array.from({ length: 8 }, () => 0xff)));
              setTimeout(() => socket.close(4999), 1500);
            };
          }),
        { url, kind },
      );
      // Closed by the server for what it is, or passed over.
      expect([1002, 1003, 1006, 1007, 1008, 1009, 4999], `${kind}: ${code}`).toContain(code);
      if (kind === "huge") expect(code).not.toBe(4999);
    }
    await terminal.line("echo alive-$((6*7))");
    await terminal.shows("alive-42");
    await terminal.isExact();
    await until("the others are gone", 10_000, async () => (await terminal.info()).writers === 1);
  });
});
