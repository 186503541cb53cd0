/** A page of somebody else, that the browser shows beside ours. */
import { createServer, type Server as Listener } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "playwright-core";

/** A web server with one empty page, under every name of this machine. */
export class Stranger {
  private constructor(readonly listener: Listener) {}

  static async start(): Promise<Stranger> {
    const listener = createServer((_request, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<!doctype html><title>A page of somebody else</title><body></body>");
    });
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    return new Stranger(listener);
  }

  get port(): number {
    return (this.listener.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.listener.closeAllConnections();
    await new Promise((resolve) => this.listener.close(resolve));
  }
}

/** How a page tries to write to another origin. */
export interface Attempt {
  readonly way: string;
  readonly method: string;
  readonly path: string;
}

/** Tries all ways that a browser has for a page to send this request to `origin`; gives those that could be read. */
export async function forge(page: Page, origin: string, attempt: Attempt): Promise<string> {
  return page.evaluate(
    async ({ origin, attempt }) => {
      const url = `${origin}${attempt.path}`;
      const body = '{"title":"forged","userName":"forged","value":"forged"}';
      const { method } = attempt;
      if (attempt.way === "form" || attempt.way === "text form") {
        const frame = document.createElement("iframe");
        frame.name = `frame-${Math.random()}`;
        document.body.append(frame);
        const form = document.createElement("form");
        Object.assign(form, { action: url, method: "post", target: frame.name });
        form.enctype = attempt.way === "form" ? "multipart/form-data" : "text/plain";
        const input = document.createElement("input");
        // As plain text this makes JSON of name and value.
        Object.assign(input, { name: `${body.slice(0, -1)},"rest":"`, value: '"}' });
        form.append(input);
        document.body.append(form);
        const answered = new Promise((resolve) => {
          frame.onload = resolve;
        });
        form.submit();
        await answered;
        frame.remove();
        form.remove();
        return "sent";
      }
      const isSimple = attempt.way === "simple";
      const type = isSimple ? "text/plain" : "application/json";
      const init: RequestInit = { method, body, credentials: "include", headers: { "Content-Type": type } };
      init.mode = isSimple ? "no-cors" : "cors";
      if (!isSimple) init.headers = { "Content-Type": type, "X-Clamshell-Console": "1" };
      try {
        const response = await fetch(url, init);
        return response.type === "opaque" ? "sent" : `read ${response.status}`;
      } catch {
        return "refused";
      }
    },
    { origin, attempt },
  );
}

/** Opens a WebSocket from a page; gives how it ended or `open`. */
export async function upgrade(page: Page, url: string): Promise<string> {
  return page.evaluate(
    (url) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(url, ["clamshell.v1"]);
        socket.binaryType = "arraybuffer";
        // Confirmation, screen or output: anything at all is too much.
        socket.onmessage = () => resolve("open");
        socket.onclose = () => resolve("closed");
        socket.onerror = () => resolve("refused");
      }),
    url,
  );
}
