/** A WebSocket client that does nearly nothing, so that fifty of them in one process measure the server. */
import { randomBytes } from "node:crypto";
import { get } from "node:http";
import type { Socket } from "node:net";

/** An open WebSocket. */
export class Client {
  #rest: Buffer = Buffer.alloc(0);

  private constructor(
    private readonly socket: Socket,
    private readonly onMessage: (payload: Buffer) => void,
  ) {}

  /** Connects with these headers. */
  static open(
    url: string,
    headers: Record<string, string>,
    onMessage: (payload: Buffer) => void,
  ): Promise<Client> {
    const upgrade = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
    };
    return new Promise((resolve, reject) => {
      const request = get(url, { headers: { ...headers, ...upgrade }, agent: false });
      request.on("error", reject);
      request.on("response", (response) => reject(new Error(`${url}: ${response.statusCode}`)));
      request.on("upgrade", (_response, socket: Socket, head: Buffer) => {
        socket.setNoDelay(true);
        const client = new Client(socket, onMessage);
        socket.on("data", (chunk: Buffer) => client.#read(chunk));
        socket.on("error", () => undefined);
        if (head.length > 0) client.#read(head);
        resolve(client);
      });
    });
  }

  /** Sends a message; the mask is zero, which changes nothing. */
  send(payload: Buffer, isText = false): void {
    const length =
      payload.length < 126
        ? Buffer.from([0x80 | payload.length])
        : Buffer.from([0x80 | 126, payload.length >> 8, payload.length & 0xff]);
    this.socket.write(Buffer.concat([Buffer.from([isText ? 0x81 : 0x82]), length, Buffer.alloc(4), payload]));
  }

  close(): void {
    this.socket.destroy();
  }

  #read(chunk: Buffer): void {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const [first, second] = [data[0], data[1]];
      if (first === undefined || second === undefined) break;
      let [head, length] = [2, second & 0x7f];
      if (length === 126) {
        if (data.length < 4) break;
        [head, length] = [4, data.readUInt16BE(2)];
      } else if (length === 127) {
        if (data.length < 10) break;
        [head, length] = [10, Number(data.readBigUInt64BE(2))];
      }
      if (data.length < head + length) break;
      // Neither server cuts messages into fragments; control frames are of no interest for so short a time.
      if ((first & 0x0f) < 8) this.onMessage(data.subarray(head, head + length));
      data = data.subarray(head + length);
    }
    this.#rest = data;
  }
}
