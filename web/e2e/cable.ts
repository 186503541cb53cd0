/** A network between browser and server that can be cut, stalled and mended at the socket. */
import { type AddressInfo, connect, createServer, type Server as Listener, type Socket } from "node:net";

/** Passes TCP connections on. */
export class Cable {
  readonly #listener: Listener;
  readonly #sockets = new Set<Socket>();
  #target = 0;
  #isUp = true;

  private constructor(listener: Listener) {
    this.#listener = listener;
  }

  /** Listens on a free port; {@link target} says later where to. */
  static async start(): Promise<Cable> {
    let cable: Cable | undefined;
    const listener = createServer((socket) => cable?.take(socket));
    cable = new Cable(listener);
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    return cable;
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Passes what comes from now on to this port. */
  target(port: number): void {
    this.#target = port;
  }

  /** Resets every connection and takes no more, until {@link mend}. */
  cut(): void {
    this.#isUp = false;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Lets nothing through any more, and tells nobody: as when a cable is pulled. */
  stall(): void {
    for (const socket of this.#sockets) socket.pause();
  }

  /** Lets stalled connections go on. */
  resume(): void {
    for (const socket of this.#sockets) socket.resume();
  }

  /** Takes connections again. */
  mend(): void {
    this.#isUp = true;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#listener.close(resolve));
  }

  /** Passes a connection on. */
  private take(browser: Socket): void {
    if (!this.#isUp) {
      browser.resetAndDestroy();
      return;
    }
    const server = connect(this.#target, "127.0.0.1");
    for (const [from, to] of [
      [browser, server],
      [server, browser],
    ] as const) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}
