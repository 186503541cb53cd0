// What the AWS SDK for JavaScript must see of a hosted agent: `agents/plain_agent.py`, whose ARN is the second argument.

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.JS_CLIENT}/package.json`);
const {
    BedrockAgentCoreClient,
    InvokeAgentRuntimeCommand,
    InvokeAgentRuntimeCommandCommand,
    ResourceNotFoundException,
    StopRuntimeSessionCommand,
} = require("@aws-sdk/client-bedrock-agentcore");
const {
    BedrockAgentCoreControlClient,
    ConflictException,
    CreateAgentRuntimeEndpointCommand,
    DeleteAgentRuntimeCommand,
    GetAgentRuntimeCommand,
    GetAgentRuntimeEndpointCommand,
    ResourceNotFoundException: Missing,
    paginateListAgentRuntimes,
    paginateListAgentRuntimeEndpoints,
} = require("@aws-sdk/client-bedrock-agentcore-control");

const agentRuntimeArn = process.argv[3];
const agentRuntimeId = agentRuntimeArn.split("/")[1];
const client = new BedrockAgentCoreClient({});
const control = new BedrockAgentCoreControlClient({});

const invoke = (payload, more = {}) =>
    client.send(new InvokeAgentRuntimeCommand({ agentRuntimeArn, payload, ...more }));

// A stream of the agent's goes on when this has been asked.
async function goOn(runtimeSessionId) {
    const body = { command: "touch /tmp/agent/go-on" };
    const command = new InvokeAgentRuntimeCommandCommand({ agentRuntimeArn, runtimeSessionId, body });
    for await (const _ of (await client.send(command)).stream);
}

const scenarios = {
    async values() {
        const runtimeSessionId = randomUUID();
        const data = randomBytes(300_000);
        const first = await invoke(data, { runtimeSessionId });
        assert.equal(first.statusCode, 200);
        assert.equal(first.runtimeSessionId, runtimeSessionId);
        // What the SDK says when its caller says nothing.
        assert.equal(first.contentType, "application/octet-stream");
        assert.ok(first.$metadata.requestId);
        assert.deepEqual(Buffer.from(await first.response.transformToByteArray()), data);
        const text = await invoke(Buffer.from("grüße"), { runtimeSessionId, contentType: "text/plain; charset=utf-8" });
        assert.equal(text.contentType, "text/plain; charset=utf-8");
        assert.equal(await text.response.transformToString(), "grüße");
        const [one, two] = await Promise.all([invoke(Buffer.from("1")), invoke(Buffer.from("2"))]);
        assert.notEqual(one.runtimeSessionId, two.runtimeSessionId);
        assert.equal((await one.response.transformToString()) + (await two.response.transformToString()), "12");
        await assert.rejects(invoke(data, { qualifier: "nowhere" }), ResourceNotFoundException);
    },

    async streams() {
        const runtimeSessionId = randomUUID();
        const { response, contentType } = await invoke(Buffer.from("stream"), { runtimeSessionId });
        assert.equal(contentType, "text/event-stream");
        const seen = [];
        // The agent says the next thing only when this one has been read.
        for await (const chunk of response) {
            seen.push(chunk.toString());
            await goOn(runtimeSessionId);
        }
        assert.deepEqual(seen, ["one", "two", "three"].map((word) => `data: "${word}"\n\n`));
        await client.send(new StopRuntimeSessionCommand({ agentRuntimeArn, runtimeSessionId }));
        const again = await invoke(Buffer.from("awake"), { runtimeSessionId });
        assert.equal(await again.response.transformToString(), "awake");
    },

    async life() {
        const runtime = await control.send(new GetAgentRuntimeCommand({ agentRuntimeId }));
        assert.equal(runtime.status, "READY");
        assert.ok(runtime.createdAt instanceof Date && runtime.lastUpdatedAt instanceof Date);
        assert.ok(Math.abs(Date.now() - runtime.createdAt) < 600_000, String(runtime.createdAt));
        assert.deepEqual(runtime.agentRuntimeArtifact.codeConfiguration.entryPoint, ["plain_agent.py"]);
        const made = await control.send(new CreateAgentRuntimeEndpointCommand({ agentRuntimeId, name: "js" }));
        assert.ok(made.createdAt instanceof Date);
        const again = new CreateAgentRuntimeEndpointCommand({ agentRuntimeId, name: "js" });
        await assert.rejects(control.send(again), ConflictException);
        const get = new GetAgentRuntimeEndpointCommand({ agentRuntimeId, endpointName: "js" });
        const deadline = Date.now() + 30_000;
        while ((await control.send(get)).status !== "READY") assert.ok(Date.now() < deadline);
        const answered = await invoke(Buffer.from("by name"), { qualifier: "js" });
        assert.equal(await answered.response.transformToString(), "by name");
        const names = [];
        for await (const page of paginateListAgentRuntimeEndpoints({ client: control, pageSize: 1 }, { agentRuntimeId }))
            names.push(...page.runtimeEndpoints.map((endpoint) => endpoint.name));
        assert.deepEqual(names.sort(), ["DEFAULT", "js"]);
        const ids = [];
        for await (const page of paginateListAgentRuntimes({ client: control, pageSize: 1 }, {})) {
            for (const item of page.agentRuntimes) assert.ok(item.lastUpdatedAt instanceof Date);
            ids.push(...page.agentRuntimes.map((item) => item.agentRuntimeId));
        }
        assert.ok(ids.includes(agentRuntimeId) && ids.length === 2, ids.join());
        await control.send(new DeleteAgentRuntimeCommand({ agentRuntimeId }));
        const gone = async () => {
            while (true) {
                await control.send(new GetAgentRuntimeCommand({ agentRuntimeId }));
                assert.ok(Date.now() < deadline);
            }
        };
        await assert.rejects(gone, Missing);
    },
};

for (const name of process.argv[2].split(",")) await scenarios[name]();
