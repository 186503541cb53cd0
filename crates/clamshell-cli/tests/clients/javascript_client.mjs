// What the AWS SDK for JavaScript must see. Each function is one scenario, named by a test in `tests/it/clients/`.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.JS_CLIENT}/package.json`);
const {
    AccessDeniedException,
    BedrockAgentCoreClient,
    InvokeAgentRuntimeCommandCommand,
    ResourceNotFoundException,
    StopRuntimeSessionCommand,
    ValidationException,
} = require("@aws-sdk/client-bedrock-agentcore");

const agentRuntimeArn = process.env.CLAMSHELL_RUNTIME_ARN;
const client = new BedrockAgentCoreClient({});

async function start(command, runtimeSessionId, rest = {}) {
    const { body, via, ...more } = { body: {}, via: client, ...rest };
    const input = { agentRuntimeArn, runtimeSessionId, body: { command, ...body }, ...more };
    const response = await via.send(new InvokeAgentRuntimeCommandCommand(input));
    const seen = { kinds: [], stdout: "", stderr: "", stop: undefined, session: response.runtimeSessionId, response };
    seen.events = response.stream[Symbol.asyncIterator]();
    return seen;
}

async function next(seen) {
    const { done, value } = await seen.events.next();
    if (done) return false;
    const [[kind, content]] = Object.entries(value.chunk);
    seen.kinds.push(kind);
    seen.stdout += content.stdout ?? "";
    seen.stderr += content.stderr ?? "";
    if (kind === "contentStop") seen.stop = content;
    return true;
}

async function run(...request) {
    const seen = await start(...request);
    while (await next(seen));
    return seen;
}

const stop = (runtimeSessionId, more = {}) =>
    client.send(new StopRuntimeSessionCommand({ agentRuntimeArn, runtimeSessionId, ...more }));

async function throws(type, status, call) {
    await assert.rejects(call, (error) => {
        assert.ok(error instanceof type, `${error.name}: ${error.message}`);
        assert.equal(error.$metadata.httpStatusCode, status);
        assert.ok(error.$metadata.requestId);
        assert.ok(error.message);
        return true;
    });
}

const scenarios = {
    async commands() {
        const done = await run("echo out; echo err >&2; exit 3");
        assert.equal(done.kinds[0], "contentStart");
        assert.equal(done.kinds.at(-1), "contentStop");
        assert.deepEqual([done.stdout, done.stderr], ["out\n", "err\n"]);
        assert.deepEqual(done.stop, { exitCode: 3, status: "COMPLETED" });
        assert.equal(done.response.statusCode, 200);
        assert.ok(done.session.length >= 33);
        const late = await run("sleep 600", done.session, { body: { timeout: 1 } });
        assert.deepEqual(late.stop, { exitCode: -1, status: "TIMED_OUT" });
        const large = await run("yes 🐚é | head -n 20000", done.session);
        assert.equal(large.stdout, "🐚é\n".repeat(20000));
        const outputs = await Promise.all([...Array(10).keys()].map((i) => run(`echo ${i}`, done.session)));
        assert.deepEqual(outputs.map((one) => one.stdout), [...Array(10).keys()].map((i) => `${i}\n`));
    },

    async streaming() {
        const going = await start("echo first; until [ -e /mnt/workspace/go ]; do sleep 0.02; done; echo last");
        while (going.stdout !== "first\n") assert.ok(await next(going));
        // The command waits for this file, so its first line was here before its end.
        await run("touch /mnt/workspace/go", going.session);
        while (await next(going));
        assert.equal(going.stdout, "first\nlast\n");
    },

    async stopAndWake() {
        const { session } = await run("echo kept > /mnt/workspace/file");
        const stopped = await stop(session);
        assert.deepEqual([stopped.statusCode, stopped.runtimeSessionId], [200, session]);
        await throws(ResourceNotFoundException, 404, () => stop(session));
        assert.equal((await run("cat /mnt/workspace/file", session)).stdout, "kept\n");
    },

    async errors() {
        const session = randomUUID();
        const other = agentRuntimeArn.replace(/-[^-]*$/, "-zzzzzzzzzz");
        await throws(ResourceNotFoundException, 404, () => run("true", session, { agentRuntimeArn: other }));
        await throws(ResourceNotFoundException, 404, () => run("true", session, { qualifier: "nowhere" }));
        // This SDK checks no lengths at all.
        await throws(ValidationException, 400, () => run("true", "short"));
        await throws(ValidationException, 400, () => run("true", session, { body: { timeout: 3601 } }));
        await throws(ValidationException, 400, () => stop("short"));
        const credentials = { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: "wrong" };
        const stranger = new BedrockAgentCoreClient({ credentials });
        await throws(AccessDeniedException, 403, () => run("true", session, { via: stranger }));
    },
};

await scenarios[process.argv[2]]();
client.destroy();
