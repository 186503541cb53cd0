/** What came over the WebSockets of a terminal, as the browser saw it. */
import type { Page } from "playwright-core";
import { expect } from "vitest";

/** One connection. */
interface Connection {
  readonly url: URL;
  /** Offset of the first byte that counts. */
  offset: number | undefined;
  readonly pieces: Buffer[];
  /** Bytes of a painted screen that are still to come; they do not count. */
  paint: number;
}

/** Records the output of each connection of a page. */
export class Frames {
  readonly connections: Connection[] = [];

  constructor(page: Page) {
    page.on("websocket", (socket) => {
      const connection: Connection = { url: new URL(socket.url()), offset: undefined, pieces: [], paint: 0 };
      this.connections.push(connection);
      socket.on("framereceived", ({ payload }) => take(connection, Buffer.from(payload)));
    });
  }

  /** Checks each connection's bytes against the log, and that none lies between one connection and the next. */
  check(log: { offset: number; bytes: Buffer }): void {
    let end: number | undefined;
    for (const { url, offset, pieces } of this.connections) {
      if (offset === undefined) continue;
      const bytes = Buffer.concat(pieces);
      const from = /^offset:(\d+)$/.exec(url.searchParams.get("from") ?? "")?.[1];
      if (from !== undefined) {
        expect(offset, "a connection begins where it was asked to").toBe(Number(from));
        expect(offset, "nothing is left out between connections").toBeLessThanOrEqual(end ?? offset);
      }
      const known = log.bytes.subarray(offset - log.offset, offset - log.offset + bytes.length);
      expect(bytes.equals(known), `bytes ${offset} to ${offset + bytes.length} are those of the log`).toBe(
        true,
      );
      end = offset + bytes.length;
    }
    expect(end, "the last connection came to the end").toBe(log.offset + log.bytes.length);
  }
}

function take(connection: Connection, frame: Buffer): void {
  const payload = frame.subarray(1);
  if (frame[0] === 0x01) {
    const painted = Math.min(connection.paint, payload.length);
    connection.paint -= painted;
    if (painted < payload.length) connection.pieces.push(payload.subarray(painted));
  } else if (frame[0] === 0x03) {
    const status = JSON.parse(payload.toString("utf8")) as {
      metadata?: { offset?: number; screen?: { offset: number; bytes: number } };
    };
    const metadata = status.metadata;
    if (metadata?.offset !== undefined && connection.offset === undefined)
      connection.offset = metadata.offset;
    if (metadata?.screen !== undefined) {
      connection.paint = metadata.screen.bytes;
      connection.offset = metadata.screen.offset;
    }
  }
}
