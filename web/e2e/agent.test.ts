/** Claude Code, used by typing in the browser, against the scripted model. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server as Listener } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CLIENTS, LACKING, MODEL, REPOSITORY, skipped } from "./lacking";
import { useStage } from "./stage";

const INSTALLED = join(CLIENTS, "claude-code");
const SCRIPT = {
  rules: [{ prompt_contains: "QUESTION-BY-HAND", answer: { say: "ANSWER-OF-THE-SCRIPT" } }],
};

const lacking = LACKING ?? missing();

function missing(): string | undefined {
  const reasons: readonly (readonly [string, string])[] = [
    [MODEL, "the scripted model is not built"],
    [join(INSTALLED, "installed"), "claude-code is not installed (run scripts/test)"],
  ];
  const reason = reasons.find(([path]) => !existsSync(path))?.[1];
  if (reason !== undefined) skipped("a coding agent in the browser", reason);
  return reason;
}

describe.skipIf(lacking)("a coding agent", () => {
  let folder: string;
  let model: ChildProcess;
  let socket: Listener;

  beforeAll(async () => {
    // Not below /tmp: that is each sandbox's own.
    folder = mkdtempSync("/var/tmp/clamshell-model-");
    chmodSync(folder, 0o755);
    const parts = join(REPOSITORY, "crates/clamshell-testkit/src/model/sandbox");
    for (const [from, to] of [
      ["relay.mjs", "relay.mjs"],
      ["claude.sh", "claude"],
    ] as const) {
      copyFileSync(join(parts, from), join(folder, to));
      chmodSync(join(folder, to), 0o755);
    }
    try {
      execFileSync("cp", ["--archive", "--link", INSTALLED, folder], { stdio: "ignore" });
    } catch {
      execFileSync("cp", ["--archive", "--reflink=auto", INSTALLED, folder]);
    }
    writeFileSync(join(folder, "script.json"), JSON.stringify(SCRIPT));
    model = spawn(MODEL, ["--script", join(folder, "script.json")], { stdio: ["ignore", "pipe", "inherit"] });
    const address = await new Promise<string>((resolve, reject) => {
      model.stdout?.once("data", (line: Buffer) => resolve(line.toString().trim()));
      model.once("exit", () => reject(new Error("the model ended")));
    });
    // A sandbox has only its own loopback: a socket in the folder that it sees leads to the model.
    const port = Number(address.split(":").at(-1)?.replace(/\D/g, ""));
    socket = createServer((inside) => {
      const outside = connect(port, "127.0.0.1");
      inside.pipe(outside).pipe(inside);
      inside.on("error", () => outside.destroy());
      outside.on("error", () => inside.destroy());
    });
    await new Promise<void>((resolve) => socket.listen(join(folder, "model.sock"), resolve));
    chmodSync(join(folder, "model.sock"), 0o666);
  });
  afterAll(() => {
    socket?.close();
    model?.kill();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  const stage = useStage({ configuration: () => `[host_image]\ninclude = [${JSON.stringify(folder)}]\n` });

  test("Claude Code is asked and answers, and stands as it was after a reload", {
    timeout: 240_000,
  }, async () => {
    const { page, terminal } = await stage.open();
    await terminal.line(`cd /mnt/workspace; ${folder}/claude; echo left-$((6*7))`);
    await terminal.shows("shortcuts", 90_000);
    await terminal.type("QUESTION-BY-HAND");
    await terminal.shows("QUESTION-BY-HAND", 60_000);
    await page.reload();
    await terminal.is("live");
    await terminal.shows("QUESTION-BY-HAND", 60_000);
    await terminal.press("Enter");
    await terminal.shows("ANSWER-OF-THE-SCRIPT", 60_000);
    await terminal.isExact();
    await page.setViewportSize({ width: 700, height: 500 });
    await terminal.shows("ANSWER-OF-THE-SCRIPT", 60_000);
    await terminal.type("/exit");
    await terminal.shows("/exit", 60_000);
    await terminal.press("Enter");
    await terminal.shows("left-42", 60_000);
    await terminal.isExact();
    expect((await terminal.info()).state).toBe("Attached");
  });
});
