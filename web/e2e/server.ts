/** A `clamshell serve` of a test's own, killed and started again at will, and calls of its API as the page makes them. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROGRAM } from "./lacking";
import { until } from "./until";

/** How long a server may take; generous, because test machines are shared. */
const START_MS = 60_000;

const COOKIE = "__Host-clamshell";

/** What `server.json` says. */
interface Info {
  readonly pid: number;
  readonly endpoint: string;
}

/** The server process. */
export class Server {
  readonly dataDir = mkdtempSync(join(tmpdir(), "clamshell-e2e-"));
  #child: ChildProcess | undefined;
  #port = 0;

  private constructor(
    /** The data directory of the server that this one is in front of (`clamshell web`). */
    readonly upstream?: string,
  ) {}

  /** Starts a server on a free port with an empty data directory. */
  static async start(configuration = ""): Promise<Server> {
    const server = new Server();
    writeFileSync(join(server.dataDir, "clamshell.toml"), configuration);
    await server.start();
    return server;
  }

  /** Starts a web terminal in front of the runtime `default` of a server. */
  static async inFrontOf(upstream: Server): Promise<Server> {
    const server = new Server(upstream.dataDir);
    await server.start();
    return server;
  }

  /** Port of the listener. */
  get port(): number {
    return this.#port;
  }

  /** Scheme and host, as the browser's address begins. */
  get origin(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error("the server does not run");
    return pid;
  }

  /** Starts, or starts again on the same folder and port. */
  async start(): Promise<void> {
    const log = openSync(join(this.dataDir, "test-server.log"), "a");
    const listen = `127.0.0.1:${this.#port}`;
    const what =
      this.upstream === undefined
        ? ["serve", "--data-dir", this.dataDir]
        : ["web", "--runtime", "default", "--data-dir", this.upstream, "--web-dir", this.dataDir];
    const child = spawn(PROGRAM, [...what, "--listen", listen], {
      stdio: ["ignore", log, log],
      env: { ...process.env, CLAMSHELL_LOG: "info" },
    });
    closeSync(log);
    this.#child = child;
    const info = await until("the server listens", START_MS, async () => {
      if (child.exitCode !== null) throw new Error(`the server ended: ${this.log()}`);
      const info = JSON.parse(readFileSync(join(this.dataDir, "server.json"), "utf8")) as Info;
      return info.pid === child.pid ? info : undefined;
    });
    this.#port = Number(new URL(info.endpoint).port);
  }

  /** Kills the server; sandboxes go on. */
  async kill9(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Asks the server to end, as an upgrade does, and waits for it; sandboxes go on. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
    this.#child = undefined;
  }

  /** The end of the server's log. */
  log(): string {
    return readFileSync(join(this.dataDir, "test-server.log"), "utf8").slice(-4000);
  }

  /** Runs the program as an operator on this machine would. */
  run(...args: string[]): string {
    return this.runWith("", ...args);
  }

  /** The same with something on its standard input. */
  runWith(input: string, ...args: string[]): string {
    return execFileSync(PROGRAM, [...args, "--data-dir", this.dataDir], {
      encoding: "utf8",
      input,
      stdio: ["pipe", "pipe", "ignore"],
    });
  }

  /** The secret of a fresh one-time link. */
  linkToken(): string {
    const printed = JSON.parse(this.run("console", "--json")) as { url: string };
    const token = printed.url.split("#link=")[1];
    if (token === undefined) throw new Error(`no link in ${printed.url}`);
    return token;
  }

  /** Signs in by a link, as root. */
  async login(): Promise<Api> {
    return Api.login(this.origin, { link: this.linkToken() });
  }

  /** Makes a user who signs in with a password. */
  addUser(name: string, role: "viewer" | "operator" | "admin", password: string): void {
    this.run("users", "create", name, "--console-role", role);
    this.runWith(`${password}\n`, "users", "passwd", name);
  }

  /** Ends the server and every sandbox, and removes the folder. */
  async remove(): Promise<void> {
    await this.#end("SIGKILL");
    for (const keeper of keepers(this.dataDir)) {
      try {
        process.kill(keeper, "SIGTERM");
      } catch {
        continue;
      }
      await until("a sandbox ends", 5000, async () => !isAlive(keeper) || undefined).catch(() => undefined);
    }
    rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Process ids of what holds the sandboxes. */
function keepers(dataDir: string): number[] {
  const sessions = join(dataDir, "sessions");
  if (!existsSync(sessions)) return [];
  const found: number[] = [];
  for (const name of readdirSync(sessions, { encoding: "utf8" })) {
    try {
      const text = readFileSync(join(sessions, name, "run/keeper.json"), "utf8");
      const state = JSON.parse(text) as { keeper?: { pid?: number }; exit?: unknown };
      // With an exit it is gone, and the id may be another's by now.
      if (state.keeper?.pid !== undefined && (state.exit ?? null) === null) found.push(state.keeper.pid);
    } catch {
      // A session without a sandbox.
    }
  }
  return found;
}

function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/\) [ZX]/.test(stat);
  } catch {
    return false;
  }
}

/** What `GET .../shells/{id}` says, as far as tests ask. */
export interface Shell {
  readonly shellId: string;
  readonly sessionId: string;
  readonly state: "Attached" | "Detached" | "Ended";
  readonly cols: number;
  readonly rows: number;
  readonly startOffset: number;
  readonly endOffset: number;
  readonly writers: number;
  readonly watchers: number;
  readonly exitCode?: number;
}

/** Calls with the cookie of a login. */
export class Api {
  private constructor(
    readonly origin: string,
    /** The cookie, `name=value`. */
    readonly cookie: string,
  ) {}

  static async login(origin: string, proof: object): Promise<Api> {
    const response = await fetch(`${origin}/clamshell/v1/console/login`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Origin: origin, "X-Clamshell-Console": "1" },
      body: JSON.stringify(proof),
    });
    if (!response.ok) throw new Error(`login: ${response.status} ${await response.text()}`);
    const cookie = response.headers.getSetCookie().find((each) => each.startsWith(`${COOKIE}=`));
    if (cookie === undefined) throw new Error("login: no cookie");
    return new Api(origin, cookie.split(";")[0] ?? "");
  }

  /** The same login at another address of the same server. */
  at(origin: string): Api {
    return new Api(origin, this.cookie);
  }

  /** A call; its answer whatever the status. */
  async ask(method: string, path: string, body?: BodyInit, headers: HeadersInit = {}): Promise<Response> {
    const own = { Cookie: this.cookie, Origin: this.origin, "X-Clamshell-Console": "1" };
    const init: RequestInit = { method, headers: { ...own, ...headers } };
    if (body !== undefined) init.body = body;
    return fetch(`${this.origin}${path}`, init);
  }

  /** A call of the extension API that must go well, JSON in and out. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const response = await this.ask(method, `/clamshell/v1${path}`, text, {
      "Content-Type": "application/json",
    });
    const answer = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    return (answer === "" ? undefined : JSON.parse(answer)) as T;
  }

  async shell(session: string, shell: string): Promise<Shell> {
    return this.call("GET", `/sessions/${session}/shells/${shell}`);
  }

  /** Shells of a session. */
  async shells(session: string): Promise<readonly Shell[]> {
    return (await this.call<{ shells: Shell[] }>("GET", `/sessions/${session}/shells`)).shells;
  }

  /** Bytes that paint the screen of a shell. */
  async painted(session: string, shell: string): Promise<Uint8Array> {
    const response = await this.ask("GET", `/clamshell/v1/sessions/${session}/shells/${shell}/screen`);
    if (!response.ok) throw new Error(`screen: ${response.status} ${await response.text()}`);
    return new Uint8Array(await response.arrayBuffer());
  }

  /** The log of a shell, and the offset of its first byte. */
  async log(session: string, shell: string): Promise<{ offset: number; bytes: Buffer }> {
    const response = await this.ask("GET", `/clamshell/v1/sessions/${session}/shells/${shell}/log`);
    if (!response.ok) throw new Error(`log: ${response.status} ${await response.text()}`);
    const offset = Number(response.headers.get("x-clamshell-offset"));
    return { offset, bytes: Buffer.from(await response.arrayBuffer()) };
  }
}
