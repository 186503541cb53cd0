"""What boto3 must see. Each function is one scenario, named on the command line by a test in `tests/it/clients/`."""

import json
import os
import sys
import threading
import time
import uuid

import boto3
import botocore.exceptions
from botocore.config import Config

ARN = os.environ["CLAMSHELL_RUNTIME_ARN"]
EVENT_MAX = 64 * 1024


def client(service="bedrock-agentcore", **arguments):
    config = Config(read_timeout=60, connect_timeout=10, max_pool_connections=32)
    return boto3.client(service, config=config, **arguments)


def new_session():
    return str(uuid.uuid4())


class Run:
    """One command, read to its end."""

    def __init__(self, command, session=None, via=None, **arguments):
        body = {"command": command}
        if "timeout" in arguments:
            body["timeout"] = arguments.pop("timeout")
        arguments.setdefault("agentRuntimeArn", ARN)
        if session is not None:
            arguments["runtimeSessionId"] = session
        self.response = (via or client()).invoke_agent_runtime_command(body=body, **arguments)
        self.session = self.response["runtimeSessionId"]
        self.kinds, self.stdout, self.stderr, self.stop = [], "", "", None
        self.events = []

    def feed(self, event):
        chunk = event["chunk"]
        self.events.append(chunk)
        (kind,) = chunk
        self.kinds.append(kind)
        if kind == "contentDelta":
            self.stdout += chunk[kind].get("stdout", "")
            self.stderr += chunk[kind].get("stderr", "")
        elif kind == "contentStop":
            self.stop = chunk[kind]

    def finish(self):
        for event in self.response["stream"]:
            self.feed(event)
        return self


def run(command, session=None, **arguments):
    return Run(command, session, **arguments).finish()


def equal(left, right):
    assert left == right, f"{left!r}\n  is not\n{right!r}"


def raises(code, call, **details):
    """Calls; the error must have this name and, when given, this HTTP status."""
    try:
        result = call()
    except botocore.exceptions.ClientError as error:
        response = error.response
        equal(response["Error"]["Code"], code)
        if "status" in details:
            equal(response["ResponseMetadata"]["HTTPStatusCode"], details["status"])
        assert response["ResponseMetadata"]["RequestId"], response
        assert response["Error"]["Message"], response
        return error
    raise AssertionError(f"no {code} but {result!r}")


def ask(what):
    """Has the test do something, and waits until it is done."""
    print(f"@{what}", flush=True)
    equal(sys.stdin.readline(), "done\n")


def eventually(look, limit=30):
    """Looks until it is true; the deadline tells what was seen last."""
    deadline = time.monotonic() + limit
    while True:
        seen = look()
        if seen is True:
            return
        assert time.monotonic() < deadline, f"last seen: {seen!r}"
        time.sleep(0.02)


def order():
    done = run("echo out; echo err >&2; exit 3")
    equal(done.response["contentType"], "application/vnd.amazon.eventstream")
    equal(done.response["statusCode"], 200)
    assert done.response["ResponseMetadata"]["RequestId"]
    equal(done.kinds[0], "contentStart")
    equal(done.kinds[-1], "contentStop")
    equal(set(done.kinds[1:-1]), {"contentDelta"})
    equal((done.stdout, done.stderr), ("out\n", "err\n"))
    equal(done.stop, {"exitCode": 3, "status": "COMPLETED"})

    silent = run("true", done.session)
    equal(silent.kinds, ["contentStart", "contentStop"])
    equal(silent.stop, {"exitCode": 0, "status": "COMPLETED"})
    # No terminal, nothing to read, the shell is bash, the user is root.
    facts = run("cat; test -t 0 || echo no tty; echo ${BASH_VERSION:+bash}; id -u; pwd", done.session)
    equal(facts.stdout, "no tty\nbash\n0\n/\n")
    equal(run("kill -9 $$", done.session).stop, {"exitCode": 137, "status": "COMPLETED"})
    traced = Run("true", done.session, traceParent="00-" + "a" * 32 + "-" + "b" * 16 + "-01").finish()
    equal(traced.response["traceParent"], "00-" + "a" * 32 + "-" + "b" * 16 + "-01")


def streaming():
    going = Run("echo first; until [ -e /mnt/workspace/go ]; do sleep 0.02; done; echo last")
    stream = iter(going.response["stream"])
    while "first\n" not in going.stdout:
        going.feed(next(stream))
    # The command waits for this file, so its first line was here before its end.
    run("touch /mnt/workspace/go", going.session)
    for event in stream:
        going.feed(event)
    equal(going.stdout, "first\nlast\n")
    equal(going.stop, {"exitCode": 0, "status": "COMPLETED"})


def timeout():
    late = run("echo started; sleep 600", timeout=1)
    equal(late.stdout, "started\n")
    equal(late.stop, {"exitCode": -1, "status": "TIMED_OUT"})
    # Nothing of it is left, not even what it put in the background.
    stubborn = "trap '' TERM; (trap '' TERM; echo $BASHPID > /mnt/workspace/pid; exec sleep 600) & sleep 600"
    equal(run(stubborn, late.session, timeout=1).stop["status"], "TIMED_OUT")
    gone = "kill -0 $(cat /mnt/workspace/pid) 2>/dev/null || echo gone"
    eventually(lambda: run(gone, late.session).stdout == "gone\n")


def large_output():
    done = run("head -c 70000 /dev/zero | tr '\\0' x")
    equal(done.stdout, "x" * 70000)
    session = done.session
    # Line feeds take two bytes as JSON, other control characters six.
    lines = run("yes '' | head -n 70000; head -c 70000 /dev/zero | tr '\\0' '\\1' >&2", session)
    equal(lines.stdout, "\n" * 70000)
    equal(lines.stderr, "\x01" * 70000)
    for one in (done, lines):
        for chunk in one.events:
            size = len(json.dumps(chunk, separators=(",", ":")))
            assert size <= EVENT_MAX, f"an event of {size} bytes"
    much = run("head -c 8000000 /dev/urandom | base64 -w 76 | tee /mnt/workspace/much", session)
    summed = run("md5sum < /mnt/workspace/much", session).stdout.split()[0]
    import hashlib

    equal(hashlib.md5(much.stdout.encode()).hexdigest(), summed)


def unicode():
    done = run("printf 'gr\u00fc\u00dfe \U0001f41a \u4f60\u597d\\n'; printf '\u00e9' >&2")
    equal(done.stdout, "gr\u00fc\u00dfe \U0001f41a \u4f60\u597d\n")
    equal(done.stderr, "\u00e9")
    many = run("yes '\U0001f41a\u00e9a' | head -n 30000", done.session)
    equal(many.stdout, "\U0001f41a\u00e9a\n" * 30000)
    # One character in two writes.
    split = run("printf '\\360\\237'; sleep 0.2; printf '\\220\\232'", done.session)
    equal(split.stdout, "\U0001f41a")
    broken = run("printf 'a\\377b'; printf '\\303'", done.session)
    equal(broken.stdout, "a\ufffdb\ufffd")


def sessions():
    first = run("echo kept > /mnt/workspace/file; echo $BASHPID")
    second = run("cat /mnt/workspace/file 2>/dev/null; true")
    assert first.session != second.session
    assert len(first.session) >= 33
    equal(second.stdout, "")
    again = run("cat /mnt/workspace/file", first.session)
    equal((again.session, again.stdout), (first.session, "kept\n"))
    # The endpoint's name is part of a call, and the bare id with the account is as good as the ARN.
    named = run("cat /mnt/workspace/file", first.session, qualifier="DEFAULT")
    equal(named.stdout, "kept\n")
    account, runtime = ARN.split(":")[4], ARN.split("/")[1]
    bare = run("cat /mnt/workspace/file", first.session, agentRuntimeArn=runtime, accountId=account)
    equal(bare.stdout, "kept\n")
    longest = "s" * 256
    equal(run("true", longest).session, longest)


def stop_and_wake():
    aws = client()
    session = new_session()
    stop = lambda: aws.stop_runtime_session(agentRuntimeArn=ARN, runtimeSessionId=session)
    raises("ResourceNotFoundException", stop, status=404)
    run("echo kept > /mnt/workspace/file; nohup sleep 1234 >/dev/null 2>&1 & true", session)
    stopped = stop()
    equal(stopped["statusCode"], 200)
    equal(stopped["runtimeSessionId"], session)
    raises("ResourceNotFoundException", stop, status=404)
    woken = run("cat /mnt/workspace/file; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 123[4]'", session)
    equal((woken.session, woken.stdout), (session, "kept\n0\n"))
    equal(stop()["statusCode"], 200)


def errors():
    aws = client()
    session = new_session()
    call = lambda **arguments: lambda: run("true", session, **arguments)
    other = ARN.rsplit("-", 1)[0] + "-zzzzzzzzzz"
    missing = raises("ResourceNotFoundException", call(agentRuntimeArn=other), status=404)
    assert isinstance(missing, aws.exceptions.ResourceNotFoundException)
    raises("ResourceNotFoundException", call(qualifier="nowhere"), status=404)
    raises("ValidationException", call(timeout=0), status=400)
    raises("ValidationException", call(timeout=3601), status=400)
    raises("ValidationException", lambda: run("x" * 65537, session), status=400)
    raises("ValidationException", lambda: run("true", "s" * 257), status=400)
    # Too short never leaves botocore.
    try:
        run("true", "short")
    except botocore.exceptions.ParamValidationError:
        pass
    else:
        raise AssertionError("botocore let a session id of 5 characters through")
    stop = lambda **arguments: aws.stop_runtime_session(**{"agentRuntimeArn": ARN, "runtimeSessionId": session, **arguments})
    raises("ResourceNotFoundException", lambda: stop(agentRuntimeArn=other), status=404)
    raises("ValidationException", lambda: stop(runtimeSessionId="s" * 257), status=400)

    wrong_secret = client(aws_secret_access_key="wrong" * 8, aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"])
    wrong_key = client(aws_access_key_id="AKIA" + "X" * 16, aws_secret_access_key="wrong" * 8)
    for stranger in (wrong_secret, wrong_key):
        error = raises("AccessDeniedException", lambda: run("true", session, via=stranger), status=403)
        typed = stranger.exceptions.AccessDeniedException
        assert isinstance(error, typed), type(error)
    elsewhere = client(region_name="eu-central-1", endpoint_url=os.environ["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"])
    raises("AccessDeniedException", lambda: run("true", session, via=elsewhere), status=403)


def at_once(sessions):
    """One command for each session, all at once, and what each must say."""
    aws = client()
    outputs = [None] * len(sessions)

    def one(number, session):
        command = f"for i in 1 2 3; do echo {number}-$i; sleep 0.05; done; exit {number}"
        deadline = time.monotonic() + 30
        while True:
            try:
                done = run(command, session, via=aws)
                break
            except aws.exceptions.RetryableConflictException:
                # The session still starts, and the SDK's own retries end after a second or two.
                assert time.monotonic() < deadline
        outputs[number] = (done.stdout, done.stop["exitCode"])

    threads = [threading.Thread(target=one, args=arguments) for arguments in enumerate(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect = [("".join(f"{number}-{i}\n" for i in (1, 2, 3)), number) for number in range(len(sessions))]
    equal(outputs, expect)


def parallel():
    at_once([run("true").session] * 20)


def parallel_starts():
    at_once([new_session() for _ in range(20)])
    # The first of them starts it; the others are told to try again.
    at_once([new_session()] * 10)


def hang_up():
    going = Run("echo $$; exec sleep 600")
    stream = iter(going.response["stream"])
    while "\n" not in going.stdout:
        going.feed(next(stream))
    going.response["stream"].close()
    gone = f"kill -0 {going.stdout.strip()} 2>/dev/null || echo gone"
    eventually(lambda: run(gone, going.session).stdout == "gone\n")


def stopped_underneath():
    aws = client()
    # A program that obeys the signal ends with its code; one that does not is killed, or its stream is cut.
    for program in ("exec sleep 600", "trap '' TERM HUP; while true; do sleep 600; done"):
        going = Run(f"echo started; {program}")
        stream = iter(going.response["stream"])
        while "started" not in going.stdout:
            going.feed(next(stream))
        equal(aws.stop_runtime_session(agentRuntimeArn=ARN, runtimeSessionId=going.session)["statusCode"], 200)
        try:
            for event in stream:
                going.feed(event)
            assert going.stop["exitCode"] > 128, f"{program}: {going.stop!r}"
        except botocore.exceptions.EventStreamError as error:
            equal(error.response["Error"]["Code"], "runtimeClientError")


def killed_server():
    first = run("echo kept > /mnt/workspace/file; nohup sleep 600 >/dev/null 2>&1 & echo $!")
    ask("kill-server")
    alive = run(f"kill -0 {first.stdout.strip()} && cat /mnt/workspace/file", first.session)
    equal(alive.stdout, "kept\n")
    ask("restart-server")
    alive = run(f"kill -0 {first.stdout.strip()} && cat /mnt/workspace/file", first.session)
    equal(alive.stdout, "kept\n")


def control_plane():
    aws = client("bedrock-agentcore-control")
    runtime_id = ARN.split("/")[1]
    (listed,) = aws.list_agent_runtimes()["agentRuntimes"]
    equal(listed["agentRuntimeArn"], ARN)
    equal((listed["agentRuntimeId"], listed["agentRuntimeName"]), (runtime_id, "default"))
    equal((listed["status"], listed["agentRuntimeVersion"]), ("READY", "1"))
    runtime = aws.get_agent_runtime(agentRuntimeId=runtime_id)
    for name in ("agentRuntimeArn", "agentRuntimeId", "agentRuntimeName", "status", "lastUpdatedAt"):
        equal(runtime[name], listed[name])
    equal(runtime["lifecycleConfiguration"], {"idleRuntimeSessionTimeout": 900, "maxLifetime": 28800})
    assert abs(time.time() - runtime["createdAt"].timestamp()) < 600, runtime["createdAt"]
    endpoint = aws.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="DEFAULT")
    equal((endpoint["name"], endpoint["status"], endpoint["liveVersion"]), ("DEFAULT", "READY", "1"))
    equal(endpoint["agentRuntimeEndpointArn"], ARN + "/runtime-endpoint/DEFAULT")
    (only,) = aws.list_agent_runtime_endpoints(agentRuntimeId=runtime_id)["runtimeEndpoints"]
    equal(only["name"], "DEFAULT")
    missing = lambda: aws.get_agent_runtime(agentRuntimeId="nothing-zzzzzzzzzz")
    error = raises("ResourceNotFoundException", missing, status=404)
    assert isinstance(error, aws.exceptions.ResourceNotFoundException), type(error)


if __name__ == "__main__":
    {name: value for name, value in globals().items() if callable(value)}[sys.argv[1]]()
