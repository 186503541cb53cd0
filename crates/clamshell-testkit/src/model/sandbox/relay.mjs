// Passes connections to 127.0.0.1:8089 on to the model's socket beside this file.
// With --wait it only waits until somebody listens there.

import { connect, createServer } from "node:net";

const port = 8089;
const socket = `${import.meta.dirname}/model.sock`;

function wait(triesLeft) {
  const probe = connect(port, "127.0.0.1", () => process.exit(0));
  probe.on("error", () => {
    if (triesLeft === 0) process.exit(1);
    setTimeout(wait, 20, triesLeft - 1);
  });
}

if (process.argv.includes("--wait")) {
  wait(1500);
} else {
  const server = createServer((client) => {
    const model = connect(socket);
    client.pipe(model).pipe(client);
    client.on("error", () => model.destroy()).on("close", () => model.destroy());
    model.on("error", () => client.destroy()).on("close", () => client.destroy());
  });
  // Another relay was first: it does the same.
  server.on("error", (error) => process.exit(error.code === "EADDRINUSE" ? 0 : 1));
  server.listen(port, "127.0.0.1");
}
