"""What clients of other protocols must see of hosted agents: tools, agents for agents, WebSockets, bearer tokens.

Each function without an underscore is one scenario, named by a test in `tests/it/clients/`."""

import asyncio
import base64
import contextlib
import http.server
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.session
import websockets
from bedrock_agentcore.runtime import AgentCoreRuntimeClient

from boto3_client import ask, client, equal, new_session, raises
from hosting_client import answer, control, create, definition, invoke, ready

# What boto3 and the SDK are stays what is installed for the tests.
sys.path.append(os.path.join(os.environ["AGENT_PACKAGES"], "packages"))

REGION = os.environ["AWS_REGION"]
ENDPOINT = os.environ["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"]
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
TINT = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tint"


def _url(arn):
    return f"{ENDPOINT}/runtimes/{urllib.parse.quote(arn, safe='')}/invocations"


def _signing(base):
    """SigV4 for the clients of other people: a hook of their HTTP library that signs what it sends."""

    class SigV4(base):
        requires_request_body = True

        def auth_flow(self, request):
            headers = {"Host": request.url.netloc.decode()}
            aws = botocore.awsrequest.AWSRequest(request.method, str(request.url), headers, request.content)
            credentials = botocore.session.get_session().get_credentials()
            botocore.auth.SigV4Auth(credentials, "bedrock-agentcore", REGION).add_auth(aws)
            request.headers.update(dict(aws.headers))
            yield request

    return SigV4()


async def _tools(arn, mode, headers=None):
    """A client of the MCP package, connected."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    http = httpx2.AsyncClient(auth=_signing(httpx2.Auth), headers=headers, timeout=60)
    return Client(streamable_http_client(_url(arn) + "?qualifier=DEFAULT", http_client=http), mode=mode)


async def _use_tools(tools):
    listed = await tools.list_tools()
    equal([tool.name for tool in listed.tools], ["add", "count", "fail"])
    called = await tools.call_tool("add", {"a": 2, "b": 40})
    equal((called.content[0].text, bool(called.is_error)), ("42", False))
    failed = await tools.call_tool("fail", {})
    assert failed.is_error and failed.content, failed
    counts = [(await tools.call_tool("count", {})).content[0].text for _ in range(3)]
    read = await tools.read_resource("notes://today")
    equal(read.contents[0].text, "nothing new")
    return counts


def mcp_server():
    arn = create("mcp_server.py", protocolConfiguration={"serverProtocol": "MCP"})

    async def all_of_it():
        # The handshake of old: the platform's id keeps a client at its session.
        for _ in range(2):
            async with await _tools(arn, "legacy") as tools:
                equal(await _use_tools(tools), ["1", "2", "3"])
        # Without a handshake there is no id but the runtime's.
        async with await _tools(arn, "auto", {SESSION: new_session()}) as tools:
            equal(await _use_tools(tools), ["1", "2", "3"])

    asyncio.run(all_of_it())
    # boto3 has members for it.
    ask = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "count", "arguments": {}}}
    first = _call_tool(arn, ask)
    equal(_counted(first), "1")
    again = _call_tool(arn, ask, mcpSessionId=first["mcpSessionId"])
    equal((_counted(again), again["mcpSessionId"]), ("2", first["mcpSessionId"]))
    # Errors are those of the protocol, with the id of the call.
    refused = _call_tool(arn, ask, runtimeSessionId="s" * 257)
    said = json.loads(refused["response"].read())
    equal((refused["statusCode"], said["id"], said["error"]["code"]), (200, 7, -32006))
    # A server with sessions of its own: its clients come back to it.
    runtime_id = arn.rsplit("/", 1)[1]
    stateful = definition(
        "mcp_server.py", protocolConfiguration={"serverProtocol": "MCP"}, environmentVariables={"STATEFUL": "1"}
    )
    control().update_agent_runtime(agentRuntimeId=runtime_id, **stateful)
    ready(runtime_id)

    async def stateful_ones():
        for _ in range(2):
            async with await _tools(arn, "legacy") as tools:
                equal(await _use_tools(tools), ["1", "2", "3"])

    asyncio.run(stateful_ones())


def _call_tool(arn, ask, **more):
    return invoke(
        arn,
        json.dumps(ask),
        contentType="application/json",
        accept="application/json, text/event-stream",
        mcpProtocolVersion="2025-06-18",
        **more,
    )


def _counted(response):
    text = response["response"].read().decode()
    if response["contentType"].startswith("text/event-stream"):
        text = next(line[6:] for line in text.splitlines() if line.startswith("data: {"))
    said = json.loads(text)
    equal(said["id"], 7)
    return said["result"]["content"][0]["text"]


def a2a_agent():
    arn = create("a2a_agent.py", protocolConfiguration={"serverProtocol": "A2A"})
    session = new_session()
    response = client().get_agent_card(agentRuntimeArn=arn, runtimeSessionId=session)
    equal((response["statusCode"], response["runtimeSessionId"]), (200, session))
    card = response["agentCard"]
    equal(card["name"], "agent")
    # It says where others reach the agent, and there they do.
    (interface,) = card["supportedInterfaces"]
    equal(interface["url"].rstrip("/"), _url(arn))
    equal(interface["protocolBinding"], "JSONRPC")
    asyncio.run(_ask_the_agent(arn, session))
    ask = {"jsonrpc": "2.0", "id": "x", "method": "nothing/like/that", "params": {}}
    answered = invoke(arn, json.dumps(ask), session, contentType="application/json")
    said = json.loads(answered["response"].read())
    equal((said["id"], said["error"]["code"]), ("x", -32601))


async def _ask_the_agent(arn, session):
    import httpx
    from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
    from a2a.helpers import get_message_text, new_text_message
    from a2a.types import Role, SendMessageRequest

    async with httpx.AsyncClient(auth=_signing(httpx.Auth), headers={SESSION: session}, timeout=60) as http:
        card = await A2ACardResolver(http, _url(arn)).get_agent_card()
        for streaming in (False, True):
            agent = ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)
            request = SendMessageRequest(message=new_text_message("hello", role=Role.ROLE_USER))
            said = [get_message_text(part.message) async for part in agent.send_message(request)]
            equal(said, [f"{session} heard hello"])


def agui_agent():
    arn = create("agui_agent.py", protocolConfiguration={"serverProtocol": "AGUI"})
    session = new_session()

    def events(payload, status=200):
        response = invoke(
            arn, json.dumps(payload), session, contentType="application/json", accept="text/event-stream"
        )
        equal(response["statusCode"], status)
        assert response["contentType"].startswith("text/event-stream"), response
        return [json.loads(line[6:]) for line in response["response"].iter_lines() if line]

    message = {"id": "1", "role": "user", "content": "hello"}
    asked = {"threadId": "t", "runId": "r", "state": {}, "messages": [message], "tools": [], "context": []}
    asked["forwardedProps"] = {}
    seen = events(asked)
    equal([event["type"] for event in seen], ["RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"])
    equal(seen[1]["delta"], f"{session} heard hello")
    seen = events({**asked, "state": "fail"})
    equal([event["type"] for event in seen], ["RUN_STARTED", "RUN_ERROR"])
    # What the agent refuses before it streams comes as an event of the platform's.
    equal([(event["type"], event["code"]) for event in events({})], [("RUN_ERROR", "AGENT_ERROR")])


def _sdk():
    return AgentCoreRuntimeClient(region=REGION)


async def _closed(socket):
    """Reads to the end; code and reason."""
    try:
        while True:
            await asyncio.wait_for(socket.recv(), 30)
    except websockets.exceptions.ConnectionClosed as error:
        return error.rcvd.code if error.rcvd else None, error.rcvd.reason if error.rcvd else None


async def _refused(url, **arguments):
    try:
        async with websockets.connect(url, **arguments):
            raise AssertionError(f"{url} was not refused")
    except websockets.exceptions.InvalidStatus as error:
        return error.response


async def _talk(socket, session):
    hello = json.loads(await socket.recv())
    equal(hello["session"], session)
    await socket.send("ü 🐚")
    equal(await socket.recv(), "heard ü 🐚")
    data = os.urandom(60_000)
    await socket.send(data)
    assert await socket.recv() == data[::-1]
    # In fragments, as one message.
    await socket.send([data[:7], b"", data[7:40_000], data[40_000:]])
    assert await socket.recv() == data[::-1]
    await asyncio.wait_for(await socket.ping(), 30)
    for number in range(100):
        await socket.send(str(number))
    equal([await socket.recv() for _ in range(100)], [f"heard {number}" for number in range(100)])
    return hello["headers"]


def web_sockets():
    allowed = {"requestHeaderAllowlist": [TINT]}
    arn = create("sdk_agent.py", requestHeaderConfiguration=allowed)
    asyncio.run(_web_sockets(arn))


async def _web_sockets(arn):
    session = new_session()
    url, headers = _sdk().generate_ws_connection(arn, session_id=session)
    async with websockets.connect(url, additional_headers=headers) as socket:
        seen = await _talk(socket, session)
        for name in ("authorization", "x-amz-date"):
            assert name not in seen, seen
        await socket.send("close")
        equal(await _closed(socket), (4321, "as asked"))
    url = _sdk().generate_presigned_url(arn, session_id=session, endpoint_name="DEFAULT", custom_headers={TINT: "light"})
    async with websockets.connect(url) as socket:
        seen = await _talk(socket, session)
        equal(seen[TINT.lower()], "light")
        # The session is the one of invocations.
        equal((await asyncio.to_thread(answer, arn, "who", session))["session"], session)
        await asyncio.to_thread(
            client().stop_runtime_session, agentRuntimeArn=arn, runtimeSessionId=session
        )
        equal((await _closed(socket))[0], 1001)
    # Too large is told, and the agent lives on.
    async with websockets.connect(_sdk().generate_presigned_url(arn, session_id=session)) as socket:
        await socket.recv()
        await socket.send(b"x" * 70_000)
        equal((await _closed(socket))[0], 1009)
    equal((await asyncio.to_thread(answer, arn, "who", session))["session"], session)
    # A server that dies takes its sockets along, not the agent behind them.
    presigned = lambda: _sdk().generate_presigned_url(arn, session_id=session)
    async with websockets.connect(presigned()) as socket:
        await socket.recv()
        await asyncio.to_thread(ask, "kill-server")
        equal(await _closed(socket), (None, None))

    async def one():
        async with websockets.connect(presigned()) as socket:
            await _talk(socket, session)

    await asyncio.gather(*(one() for _ in range(10)))
    # Who floods is sent away.
    async with websockets.connect(presigned()) as socket:
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            for _ in range(1000):
                await socket.send("x")
        equal((await _closed(socket))[0], 1008)
    tampered = _sdk().generate_presigned_url(arn, session_id=session).replace(session, new_session())
    equal((await _refused(tampered)).status_code, 403)


class _Provider(http.server.BaseHTTPRequestHandler):
    """An identity provider: its metadata and its keys."""

    def do_GET(self):
        host = f"http://127.0.0.1:{self.server.server_port}"
        metadata = {"issuer": host, "jwks_uri": f"{host}/keys"}
        body = json.dumps(self.server.keys if self.path == "/keys" else metadata).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _post(url, token=None, session=None, body=b'{"ask": "who"}'):
    """As curl would; status, headers and body."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if session is not None:
        headers[SESSION] = session
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def bearer_tokens():
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(keys[0].public_key(), as_dict=True)
    provider.keys = {"keys": [{**public, "kid": "one", "alg": "RS256", "use": "sig"}]}
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    issuer = f"http://127.0.0.1:{provider.server_port}"

    def token(key=0, **claims):
        claims = {"iss": issuer, "sub": "jane", "client_id": "me", "exp": int(time.time()) + 600, **claims}
        return jwt.encode(claims, keys[key], algorithm="RS256", headers={"kid": "one"})

    discovery = f"{issuer}/.well-known/openid-configuration"
    authorizer = {"customJWTAuthorizer": {"discoveryUrl": discovery, "allowedClients": ["me"]}}
    headers = {"requestHeaderAllowlist": ["Authorization"]}
    arn = create("sdk_agent.py", authorizerConfiguration=authorizer, requestHeaderConfiguration=headers)
    url = _url(arn) + "?qualifier=DEFAULT"
    good = token()
    session = new_session()
    status, seen, body = _post(url, good, session)
    equal((status, seen[SESSION]), (200, session))
    who = json.loads(body)
    equal(who["session"], session)
    equal({name.lower(): value for name, value in who["headers"].items()}["authorization"], f"Bearer {good}")
    # Who has no token is told where to get one, and finds the provider there.
    status, seen, _ = _post(url)
    equal((status, seen["x-amzn-ErrorType"]), (401, "UnauthorizedException"))
    start = 'Bearer resource_metadata="'
    told = seen["WWW-Authenticate"]
    assert told.startswith(start), told
    with urllib.request.urlopen(told.removeprefix(start).rstrip('"')) as response:
        resource = json.loads(response.read())
    equal(resource["authorization_servers"], [issuer])
    for bad, status in (
        (token(exp=int(time.time()) - 600), 401),
        (token(key=1), 401),
        (token(client_id="you"), 401),
        (token(iss="https://example.com"), 401),
        ("garbage", 403),
    ):
        got, seen, body = _post(url, bad, session)
        equal((got, body if got != status else None), (status, None))
        assert bad.encode() not in body
    mismatch = raises("AccessDeniedException", lambda: invoke(arn, b"{}"), status=403)
    assert "Authorization method mismatch" in str(mismatch), mismatch
    asyncio.run(_bearer_sockets(arn, good, session))
    # A signed runtime takes no token.
    runtime_id = arn.rsplit("/", 1)[1]
    control().update_agent_runtime(agentRuntimeId=runtime_id, **definition("sync_agent.py"))
    ready(runtime_id)
    status, _, body = _post(url, good)
    equal((status, b"mismatch" in body), (403, True))
    equal(json.loads(invoke(arn, b'{"prompt": "loud"}')["response"].read()), {"result": "LOUD"})
    asyncio.run(_no_sockets(arn))


async def _bearer_sockets(arn, token, session):
    url, headers = _sdk().generate_ws_connection_oauth(arn, token, session_id=session)
    async with websockets.connect(url, additional_headers=headers) as socket:
        await _talk(socket, session)
    # As browsers do: no headers, the token as a subprotocol.
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    name = "base64UrlBearerAuthorization"
    async with websockets.connect(f"{url}?{SESSION}={session}", subprotocols=[f"{name}.{encoded}", name]) as socket:
        equal(socket.subprotocol, name)
        await _talk(socket, session)
    equal((await _refused(url)).status_code, 401)


async def _no_sockets(arn):
    """An agent that takes no WebSocket refuses it, and the client is told so."""
    response = await _refused(_sdk().generate_presigned_url(arn))
    equal((response.status_code, response.headers["x-amzn-ErrorType"]), (424, "RuntimeClientError"))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
