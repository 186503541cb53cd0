// HTTP around a coding agent: a prompt comes in, what the agent prints goes out as it comes.
//
// POST /invocations {"prompt": "..."} answers with events, or with one JSON object for callers that take no events.
// The agent works in /mnt/workspace, which outlives the sandbox; command.mjs says how it is started.

import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { command, prepare } from "./command.mjs";

const workspace = process.env.WORKSPACE ?? "/mnt/workspace";
const home = `${workspace}/.home`;
const bodyBytesMax = 10_000_000;

mkdirSync(home, { recursive: true });
const environment = { ...process.env, HOME: home };
prepare(home, environment);

// A program to run beside the agent, for instance a proxy to its model.
if (process.env.SIDECAR) {
  spawn("sh", ["-c", process.env.SIDECAR], { stdio: ["ignore", "inherit", "inherit"] });
}

let busy = 0;
let since = Math.floor(Date.now() / 1000);
let last = Promise.resolve();

// One prompt at a time: they share a workspace.
function inTurn(work) {
  const turn = last.then(work, work);
  last = turn.catch(() => {});
  return turn;
}

function count(change) {
  const was = busy;
  busy += change;
  if ((was === 0) !== (busy === 0)) since = Math.floor(Date.now() / 1000);
}

function run(prompt, response, onText) {
  return new Promise((resolve) => {
    if (response.destroyed) return resolve("the caller has gone");
    const { argv, input } = command(prompt, workspace);
    const child = spawn(argv[0], argv.slice(1), { cwd: workspace, env: environment, stdio: ["pipe", "pipe", "pipe"] });
    const stop = () => child.kill("SIGTERM");
    response.on("close", stop);
    let complaints = "";
    child.stdout.setEncoding("utf8").on("data", onText);
    child.stderr.setEncoding("utf8").on("data", (text) => {
      process.stderr.write(text);
      complaints = (complaints + text).slice(-2000);
    });
    child.stdin.on("error", () => {}).end(input ?? "");
    child.on("error", (error) => resolve(`${argv[0]} cannot be started: ${error.message}`));
    child.on("close", (code, signal) => {
      response.off("close", stop);
      resolve(code === 0 ? null : `the agent ended with ${signal ?? code}: ${complaints.trim()}`);
    });
  });
}

async function read(request) {
  const pieces = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += piece.length;
    if (bytes > bodyBytesMax) throw new Error("the prompt is too long");
    pieces.push(piece);
  }
  const { prompt } = JSON.parse(Buffer.concat(pieces).toString("utf8"));
  if (typeof prompt !== "string" || !prompt) throw new Error('send {"prompt": "..."}');
  return prompt;
}

function reply(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

async function invoke(request, response) {
  let prompt;
  try {
    prompt = await read(request);
  } catch (error) {
    return reply(response, 400, { error: error.message });
  }
  const streams = (request.headers.accept ?? "").includes("text/event-stream");
  count(1);
  try {
    if (!streams) {
      let text = "";
      const error = await inTurn(() => run(prompt, response, (piece) => (text += piece)));
      return error ? reply(response, 500, { error }) : reply(response, 200, { result: text });
    }
    const send = (value) => response.write(`data: ${JSON.stringify(value)}\n\n`);
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    const error = await inTurn(() => run(prompt, response, send));
    if (error) send({ error });
    response.end();
  } finally {
    count(-1);
  }
}

createServer((request, response) => {
  if (request.method === "GET" && request.url === "/ping") {
    reply(response, 200, { status: busy ? "HealthyBusy" : "Healthy", time_of_last_update: since });
  } else if (request.method === "POST" && request.url === "/invocations") {
    invoke(request, response);
  } else {
    reply(response, 404, { error: "not found" });
  }
}).listen(8080, "0.0.0.0");
