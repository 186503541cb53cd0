"""What boto3 must see of hosted agents. Each function without an underscore is one scenario, named by a test in
`tests/it/clients/`.

The agents lie in `agents/`; they go into one zip with the packages that scripts/install-test-clients fetched for them."""

import concurrent.futures
import io
import json
import os
import sys
import time
import uuid
import zipfile
from pathlib import Path

import boto3
import botocore.exceptions
from botocore.config import Config

from boto3_client import ARN, ask, client, equal, eventually, new_session, raises, run

# The role that the first start makes.
ROLE = f"arn:aws:iam::{ARN.split(':')[4]}:role/clamshell-agent"
AGENTS = Path(__file__).parent / "agents"
PYTHON = f"PYTHON_3_{sys.version_info.minor}"
FAILED = "Received error ({}) from runtime. Please check your CloudWatch logs for more information."


def control():
    return client("bedrock-agentcore-control")


def bucket():
    _, _, _, region, account, _ = ARN.split(":", 5)
    return f"clamshell-code-{account}-{region}"


def upload(packages, key="agents.zip"):
    """Puts the agents, with the packages that they need, into the bucket of the server."""
    zipped = io.BytesIO((Path(os.environ["AGENT_PACKAGES"]) / "packages.zip").read_bytes() if packages else b"")
    with zipfile.ZipFile(zipped, "a", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(AGENTS.glob("*.py")):
            archive.write(file, file.name)
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    s3.put_object(Bucket=bucket(), Key=key, Body=zipped.getvalue())


def definition(entry, key="agents.zip", **more):
    code = {"s3": {"bucket": bucket(), "prefix": key}}
    return dict(
        agentRuntimeArtifact={"codeConfiguration": {"code": code, "runtime": PYTHON, "entryPoint": [entry]}},
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **more,
    )


def ready(runtime_id):
    """Waits until nothing goes on with a runtime."""
    deadline = time.monotonic() + 60
    while True:
        found = control().get_agent_runtime(agentRuntimeId=runtime_id)
        if not found["status"].endswith("ING"):
            equal((found["status"], found.get("failureReason")), ("READY", None))
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def create(entry, name="agent", packages=True, **more):
    """Uploads the agents and makes a runtime of one of them; its ARN."""
    upload(packages=packages)
    made = control().create_agent_runtime(agentRuntimeName=name, **definition(entry, **more))
    return ready(made["agentRuntimeId"])["agentRuntimeArn"]


def invoke(arn, payload, session=None, via=None, **more):
    if session is not None:
        more["runtimeSessionId"] = session
    return (via or client()).invoke_agent_runtime(agentRuntimeArn=arn, payload=payload, **more)


def answer(arn, ask, session=None, **more):
    """The value that an agent of the SDK answers with."""
    return json.loads(invoke(arn, json.dumps({"ask": ask}), session, **more)["response"].read())


def _go_on(arn, session):
    run("touch /tmp/agent/go-on", session, agentRuntimeArn=arn)


def sdk_agent():
    arn = create("sdk_agent.py", environmentVariables={"COLOR": "green"})
    _values(arn)
    _streams(arn)
    _busy(arn)
    _errors(arn)


def _values(arn):
    session = new_session()
    response = invoke(arn, b'{"ask": "who"}', session, traceId="Root=1-5759e988-bd862e3fe1be46a994272793")
    equal((response["statusCode"], response["contentType"]), (200, "application/json"))
    equal(response["runtimeSessionId"], session)
    equal(response["traceId"], "Root=1-5759e988-bd862e3fe1be46a994272793")
    seen = json.loads(response["response"].read())
    equal((seen["session"], seen["color"]), (session, "green"))
    equal(seen["request"], response["ResponseMetadata"]["RequestId"])
    equal(seen["region"], os.environ["AWS_REGION"])
    # Without a session id every call has a new one, and so has its answer.
    first, second = (invoke(arn, b'{"ask": "who"}') for _ in range(2))
    ids = [json.loads(response["response"].read())["session"] for response in (first, second)]
    equal(ids, [first["runtimeSessionId"], second["runtimeSessionId"]])
    equal(len({session, *ids}), 3)
    # Agents have the credentials of their role from the metadata service, found by boto3 itself.
    equal(answer(arn, "credentials", session), {"method": "iam-role", "token": True})
    # One process serves many calls at once.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        aws = client()
        asked = [pool.submit(answer, arn, f"n{number}", session, via=aws) for number in range(64)]
        equal([one.result() for one in asked], [{"echo": {"ask": f"n{number}"}} for number in range(64)])


def _streams(arn):
    session = new_session()
    response = invoke(arn, b'{"ask": "stream"}', session)
    assert response["contentType"].startswith("text/event-stream"), response["contentType"]
    lines = response["response"].iter_lines(chunk_size=1)
    # The agent says the second thing only when the first has been seen here.
    equal(next(lines), b'data: {"step": "one"}')
    _go_on(arn, session)
    # boto3 keeps an empty line until another comes.
    equal(next(lines), b"")
    equal(json.loads(next(lines).removeprefix(b"data: ")), {"step": "zwei ü 🐚"})
    _go_on(arn, session)
    equal(list(lines), [b"", b'data: "three"', b""])
    # An exception in the middle is an event of the SDK's own.
    response = invoke(arn, b'{"ask": "fail in stream"}', session)
    said = [json.loads(line[6:]) for line in response["response"].iter_lines() if line]
    equal(said[0], "fine so far")
    equal((said[1]["error"], said[1]["error_type"]), ("broke in the middle", "ValueError"))
    # Who hangs up in a stream leaves the agent in peace.
    response = invoke(arn, b'{"ask": "stream"}', session)
    equal(next(response["response"].iter_lines(chunk_size=1)), b'data: {"step": "one"}')
    response["response"].close()
    _go_on(arn, session)
    equal(answer(arn, "still there", session), {"echo": {"ask": "still there"}})


def _errors(arn):
    session = new_session()
    equal(answer(arn, "hi", session), {"echo": {"ask": "hi"}})
    error = raises("RuntimeClientError", lambda: answer(arn, "fail", session), status=424)
    equal(error.response["Error"]["Message"], FAILED.format(500))
    error = raises("RuntimeClientError", lambda: invoke(arn, b"no json", session), status=424)
    equal(error.response["Error"]["Message"], FAILED.format(400))
    aws = client()
    for raised, call in (
        (aws.exceptions.ResourceNotFoundException, lambda: invoke(arn[:-10] + "0" * 10, b"{}", via=aws)),
        (aws.exceptions.ResourceNotFoundException, lambda: invoke(arn, b"{}", via=aws, qualifier="nowhere")),
        (aws.exceptions.ValidationException, lambda: invoke(arn, b"{}", "s" * 257, via=aws)),
        (aws.exceptions.ValidationException, lambda: aws.get_agent_card(agentRuntimeArn=arn)),
        (aws.exceptions.RuntimeClientError, lambda: answer(arn, "fail", session, via=aws)),
    ):
        try:
            call()
        except raised:
            continue
        raise AssertionError(f"no {raised.__name__}")
    # The agent is as well as before.
    equal(answer(arn, "hi", session), {"echo": {"ask": "hi"}})
    # A version of a file that is not in the zip becomes none.
    runtime_id = arn.rsplit("/", 1)[1]
    control().update_agent_runtime(agentRuntimeId=runtime_id, **definition("gone.py"))
    seen = lambda: control().get_agent_runtime(agentRuntimeId=runtime_id)["status"]
    eventually(lambda: seen() == "UPDATE_FAILED" or seen())
    # What works goes on to work.
    equal(answer(arn, "hi"), {"echo": {"ask": "hi"}})


def life():
    """From a zip to nothing: versions, a pinned endpoint, sessions that keep their version, a stop, an end."""
    arn = create("sdk_agent.py", environmentVariables={"COLOR": "green"})
    runtime_id = arn.rsplit("/", 1)[1]
    control().create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="pinned", agentRuntimeVersion="1")
    old = new_session()
    equal(answer(arn, "who", old)["color"], "green")
    control().update_agent_runtime(
        agentRuntimeId=runtime_id, **definition("sdk_agent.py", environmentVariables={"COLOR": "red"})
    )
    ready(runtime_id)
    equal(answer(arn, "who")["color"], "red")
    equal(answer(arn, "who", qualifier="pinned")["color"], "green")
    # A session keeps the version that it started with until it is stopped.
    equal(answer(arn, "who", old)["color"], "green")
    run("echo kept > /mnt/workspace/f", old, agentRuntimeArn=arn)
    stopped = client().stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=old)
    equal((stopped["statusCode"], stopped["runtimeSessionId"]), (200, old))
    equal(answer(arn, "who", old)["color"], "red")
    # Agents and their sessions outlive the server.
    ask("kill-server")
    equal(answer(arn, "who", old)["session"], old)
    # A stream ends with its session.
    response = invoke(arn, b'{"ask": "stream"}', old)
    lines = response["response"].iter_lines(chunk_size=1)
    equal(next(lines), b'data: {"step": "one"}')
    client().stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=old)
    _cut(lambda: list(lines))
    equal(control().delete_agent_runtime(agentRuntimeId=runtime_id)["status"], "DELETING")

    def gone():
        try:
            return control().get_agent_runtime(agentRuntimeId=runtime_id)["status"]
        except client("bedrock-agentcore-control").exceptions.ClientError as error:
            return error.response["Error"]["Code"] == "ResourceNotFoundException" or str(error)

    eventually(gone)
    raises("ResourceNotFoundException", lambda: answer(arn, "who"), status=404)


def _busy(arn):
    """A background task makes its agent say that it is busy."""
    session = new_session()
    equal(answer(arn, "work", session), "started")

    def status():
        asked = run("python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/ping').read().decode())\"",
                    session, agentRuntimeArn=arn)
        return json.loads(asked.stdout)["status"]

    equal(status(), "HealthyBusy")
    _go_on(arn, session)
    eventually(lambda: (seen := status()) == "Healthy" or seen)


def web_agent():
    """A web framework's agent: bytes, kinds, headers, statuses."""
    headers = {"requestHeaderAllowlist": ["X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tint", "X-Tenant"]}
    arn = create("web_agent.py", requestHeaderConfiguration=headers)
    session = new_session()
    aws = client()
    for size in (0, 1, 65_537, 3_000_000):
        data = os.urandom(size)
        response = invoke(arn, data, session, aws, contentType="application/octet-stream")
        equal(response["contentType"], "application/octet-stream")
        assert response["response"].read() == data, size
    data = os.urandom(3_000_000)
    response = invoke(arn, data, session, aws, contentType="application/x-parts")
    assert b"".join(response["response"].iter_chunks(1 << 16)) == data

    def add(request, **_):
        request.headers["X-Tenant"] = "blue"
        request.headers["X-Other"] = "never"
        request.headers["X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tint"] = "light"

    aws.meta.events.register("before-sign.bedrock-agentcore.InvokeAgentRuntime", add)
    response = invoke(arn, b"", session, aws, contentType="application/x-headers", accept="application/json",
                      runtimeUserId="jane", baggage="k=v", traceParent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    seen = json.loads(response["response"].read())
    expect = {
        "content-type": "application/x-headers",
        "accept": "application/json",
        "x-tenant": "blue",
        "x-amzn-bedrock-agentcore-runtime-custom-tint": "light",
        "x-amzn-bedrock-agentcore-runtime-session-id": session,
        "x-amzn-bedrock-agentcore-runtime-request-id": response["ResponseMetadata"]["RequestId"],
        "x-amzn-bedrock-agentcore-runtime-user-id": "jane",
        "baggage": "k=v",
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    }
    equal({name: seen.get(name) for name in expect}, expect)
    for name in ("x-other", "authorization", "x-amz-date", "x-amz-security-token", "amz-sdk-invocation-id"):
        assert name not in seen, seen
    equal((response["baggage"], response["traceParent"]), ("k=v", expect["traceparent"]))
    for status in (200, 202):
        response = invoke(arn, str(status), session, aws, contentType="application/x-status")
        equal(response["statusCode"], status)
    for status in (400, 404, 429, 500, 503):
        call = lambda: invoke(arn, str(status), session, aws, contentType="application/x-status")
        error = raises("RuntimeClientError", call, status=424)
        equal(error.response["Error"]["Message"], FAILED.format(status))


def rough_agent():
    """What an agent does wrong is told in one way, and the next call finds it or a new one."""
    arn = create("rough_agent.py", packages=False)
    session = new_session()
    # No retries: each call is one.
    aws = boto3.client("bedrock-agentcore", config=Config(retries={"total_max_attempts": 1}))
    echo = lambda text, session=session: invoke(arn, text, session, aws)["response"].read()
    equal(echo(b"hi"), b"hi")
    for wrong, status in ((b"junk", 502), (b"long header", 502), (b"elsewhere", 302), (b"die", 502)):
        error = raises("RuntimeClientError", lambda: echo(wrong), status=424)
        equal(error.response["Error"]["Message"], FAILED.format(status))
        equal(echo(b"hi"), b"hi")
    _cut(invoke(arn, b"half", session, aws)["response"].read)
    response = invoke(arn, b"nothing", session, aws)
    equal((response["statusCode"], response["response"].read()), (204, b""))
    # An agent that ends in its first call has ended; nobody waits for it.
    raises("RuntimeClientError", lambda: echo(b"die", new_session()), status=424)
    # The largest payload there may be, each way, and one byte more.
    largest = os.urandom(1000) * 100_000
    assert echo(largest) == largest
    raises("ValidationException", lambda: echo(largest + b"x"), status=400)


def _cut(read):
    """What reads a stream must fail."""
    try:
        rest = read()
    except (botocore.exceptions.BotoCoreError, OSError):
        return
    except Exception as error:  # urllib3's own, which boto3 lets through
        assert "IncompleteRead" in repr(error) or "Connection" in repr(error), repr(error)
        return
    raise AssertionError(f"the stream ended well: {rest[-200:]!r}")


def many_at_once():
    arn = create("plain_agent.py", packages=False)
    aws = client()
    echo = lambda text, session: invoke(arn, text, session, aws)["response"].read().decode()
    expect = [str(number) for number in range(24)]
    # One session: the first call starts it, the others wait for that. And sessions of their own.
    for sessions in ([new_session()] * 24, [new_session() for _ in range(24)]):
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            equal(list(pool.map(echo, expect, sessions)), expect)
    # A server that dies cuts its streams; agents go on.
    session = new_session()
    lines = invoke(arn, b"stream", session, aws)["response"].iter_lines(chunk_size=1)
    equal(next(lines), b'data: "one"')
    ask("kill-server")
    _cut(lambda: list(lines))
    equal(echo("still there", session), "still there")
    # And so does a runtime that is deleted, with its sessions.
    lines = invoke(arn, b"stream", session, aws)["response"].iter_lines(chunk_size=1)
    equal(next(lines), b'data: "one"')
    control().delete_agent_runtime(agentRuntimeId=arn.rsplit("/", 1)[1])
    _cut(lambda: list(lines))


def plain_agent():
    """For clients that make no zips: the agent that needs none, and its ARN on standard output."""
    print(create("plain_agent.py", packages=False))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
