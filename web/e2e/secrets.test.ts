/** A secret of a terminal's command reaches the program and is nowhere else. */
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";
import { Terminal } from "./terminal";

describe.skipIf(LACKING)("secrets", () => {
  const stage = useStage();

  test("the canary is in the program's file, and not in the page, the log, the recording or the disk", async () => {
    const { server, api } = stage;
    const canary = `canary-${randomBytes(24).toString("hex")}`;
    const hash = createHash("sha256").update(canary).digest("hex");
    server.runWith(canary, "secrets", "set", "CANARY", "--from-file", "-");
    const command = 'sha256sum <"$CLAMSHELL_SECRETS/CANARY"; exec bash';
    server.run("runtime", "terminal", "default", "--command", command, "--secret", "CANARY");

    const { page } = await stage.window();
    const received: Buffer[] = [];
    page.on("websocket", (socket) => {
      socket.on("framereceived", ({ payload }) => received.push(Buffer.from(payload)));
      socket.on("framesent", ({ payload }) => received.push(Buffer.from(payload)));
    });
    const bodies: Promise<unknown>[] = [];
    page.on("response", (response) => {
      if (response.headers()["content-type"]?.includes("event-stream")) return;
      bodies.push(
        response.body().then(
          (body) => received.push(body),
          () => undefined,
        ),
      );
    });
    const terminal = await Terminal.open(page, api);
    await terminal.shows(hash);
    await terminal.line(
      "env; history; cat /proc/self/cmdline /proc/$$/environ | tr '\\0' '\\n'; echo looked-$((6*7))",
    );
    await terminal.shows("looked-42");
    await page.reload();
    await terminal.is("live");
    await terminal.isExact();
    const dom: string[] = [];
    for (const path of ["terminal", "shells", "sessions", "runtimes", "audit", "settings"]) {
      await page.goto(`${server.origin}/console/${path}`);
      await page.waitForTimeout(500);
      dom.push(await page.content());
    }
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
    await Promise.all(bodies);

    const at = `/clamshell/v1/sessions/${terminal.session}/shells/${terminal.shell}`;
    const places: Record<string, Buffer> = {
      "what the page received and sent": Buffer.concat(received),
      "the page": Buffer.from(dom.join("\n")),
      "the browser's storage": Buffer.from(stored),
      "the log": (await api.log(terminal.session, terminal.shell)).bytes,
      "the screen": Buffer.from(await api.painted(terminal.session, terminal.shell)),
      "the recording": Buffer.from(await (await api.ask("GET", `${at}/export`)).arrayBuffer()),
      "the audit trail": Buffer.from(JSON.stringify(await api.call("GET", "/audit?limit=1000"))),
      "the list of secrets": Buffer.from(JSON.stringify(await api.call("GET", "/secrets"))),
      "the server's log and data": contents(server.dataDir),
      "arguments and environments": processes(),
    };
    expect(places["the log"]?.includes(hash), "the program read it").toBe(true);
    const encoded = [canary, Buffer.from(canary).toString("base64").slice(0, 40)];
    const leaks = Object.entries(places).filter(([, bytes]) => encoded.some((text) => bytes.includes(text)));
    expect(leaks.map(([place]) => place)).toEqual([]);
    for (const [place, bytes] of Object.entries(places)) expect(bytes.length, place).toBeGreaterThan(1);
  });
});

/** All regular files below a folder, one after the other. */
function contents(folder: string): Buffer {
  const parts: Buffer[] = [];
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const path = join(folder, name);
    try {
      if (statSync(path).isFile() && !path.includes("/proc/")) parts.push(readFileSync(path));
    } catch {
      // Gone, or a link to where nothing is.
    }
  }
  return Buffer.concat(parts);
}

/** Arguments and environments of all processes of this machine. */
function processes(): Buffer {
  const parts: Buffer[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    for (const file of ["cmdline", "environ"]) {
      try {
        parts.push(readFileSync(`/proc/${pid}/${file}`));
      } catch {
        // Gone, or another user's.
      }
    }
  }
  return Buffer.concat(parts);
}
