"""What the Python SDK's shells must see. Each function is one scenario, named by a test in `tests/it/clients/`."""

import asyncio
import json
import os
import re
import sys
import uuid

import websockets
from bedrock_agentcore.runtime import AgentCoreRuntimeClient
from bedrock_agentcore.runtime.shell import OAuthAuth, PresignedAuth, ReconnectConfig, ShellChannel, ShellFramer, ShellSession

ARN = os.environ["CLAMSHELL_RUNTIME_ARN"]
FRAME_MAX = 64 * 1024

# The SDK swallows confirmations; what they said is written down here.
confirmations = []
_is_confirmation = ShellSession._is_confirmation_status


def _noting(status):
    confirmed = _is_confirmation(status)
    if confirmed:
        confirmations.append(status["metadata"])
    return confirmed


ShellSession._is_confirmation_status = staticmethod(_noting)


def client():
    return AgentCoreRuntimeClient(region=os.environ["AWS_REGION"])


def equal(left, right):
    assert left == right, f"{left!r}\n  is not\n{right!r}"


async def ask(what):
    """Has the test do something, and waits until it is done, while the loop goes on."""
    print(f"@{what}", flush=True)
    equal(await asyncio.to_thread(sys.stdin.readline), "done\n")


async def open_and(function, **arguments):
    """Opens a shell as the SDK's samples do: a conflict while the session starts or stops is tried again."""
    for left in reversed(range(6)):
        try:
            async with client().open_shell(ARN, **arguments) as shell:
                return await function(shell)
        except websockets.exceptions.InvalidStatus as error:
            if error.response.status_code != 409 or left == 0:
                raise
            await asyncio.sleep(0.2)


class Reader:
    """Reads a shell's frames in order."""

    def __init__(self, shell):
        self.shell, self.text, self.ended, self.largest = shell, "", False, 0

    async def until(self, pattern, limit=60):
        """Reads until the pattern is in what came; gives the match and forgets everything up to its end."""

        async def read():
            while not (match := re.search(pattern, self.text)):
                await self.frame()
            self.text = self.text[match.end() :]
            return match

        try:
            return await asyncio.wait_for(read(), limit)
        except (TimeoutError, asyncio.TimeoutError, StopAsyncIteration) as error:
            raise AssertionError(f"{error!r}: no {pattern!r} in {self.text[-2000:]!r}") from None

    async def up_to(self, marker, limit=120):
        """Reads until the marker is in what came; gives what was before it. For much text."""

        async def read():
            start = 0
            while (end := self.text.find(marker, start)) < 0:
                start = max(0, len(self.text) - len(marker))
                await self.frame()
            before, self.text = self.text[:end], self.text[end + len(marker) :]
            return before

        try:
            return await asyncio.wait_for(read(), limit)
        except (TimeoutError, asyncio.TimeoutError, StopAsyncIteration) as error:
            raise AssertionError(f"{error!r}: no {marker!r} in {self.text[-2000:]!r}") from None

    async def frame(self):
        frame = await self.shell.__anext__()
        self.largest = max(self.largest, len(frame.payload) + 1)
        if frame.channel == ShellChannel.STDOUT:
            self.text += frame.text
        return frame

    async def to_end(self, limit=60):
        """Reads until the shell or the connection ends."""

        async def read():
            while True:
                try:
                    await self.frame()
                except StopAsyncIteration:
                    return

        await asyncio.wait_for(read(), limit)


async def quiet(shell):
    """No echo and no prompt, so that what comes is what programs print."""
    reader = Reader(shell)
    # A name of its own: what an earlier connection saw comes again.
    mark = f"ready-{uuid.uuid4()}"
    await shell.send(f"stty -echo; PS1=; PS2=; echo ''{mark}\n")
    await reader.until(f"(?<!'){mark}\r\n")
    return reader


async def exits_with(auth, **arguments):
    async def use(shell):
        reader = await quiet(shell)
        await shell.send("test -t 0 && echo a tty; printf 'gr\u00fc\u00dfe \U0001f41a\\n'\n")
        await reader.until("a tty\r\ngr\u00fc\u00dfe \U0001f41a\r\n")
        await shell.send("exit 7\n")
        await reader.to_end()
        equal((shell.exit_code, shell.kicked), (7, False))
        return shell

    shell = await open_and(use, auth=auth, **arguments)
    equal(confirmations[-1], {"shellId": shell.shell_id, "reconnected": False})


async def sigv4():
    await exits_with("sigv4")
    session = str(uuid.uuid4())
    await exits_with("sigv4", session_id=session, shell_id="build", endpoint_name="DEFAULT")
    # The id is free again after the end, and gets a fresh shell.
    await exits_with("sigv4", session_id=session, shell_id="build")


async def presigned():
    await exits_with(PresignedAuth(expires=60))
    session = str(uuid.uuid4())
    await exits_with(PresignedAuth(expires=300), session_id=session, shell_id="build", endpoint_name="DEFAULT")


async def end_of_file():
    async def use(shell):
        reader = await quiet(shell)
        await shell.send("\x04")
        await reader.to_end()
        equal(shell.exit_code, 0)

    await open_and(use)

    async def killed(shell):
        reader = await quiet(shell)
        await shell.send("kill -9 $$\n")
        await reader.to_end()
        equal(shell.exit_code, 137)

    await open_and(killed)


async def detach_and_return():
    session = str(uuid.uuid4())

    async def first(shell):
        reader = await quiet(shell)
        await shell.send("KEPT=yes; cd /mnt/workspace; (until [ -e go ]; do sleep 0.02; done; echo while away) &\n")
        await shell.send("echo set''\n")
        await reader.until(r"set\r\n")

    async def second(shell):
        reader = Reader(shell)
        await shell.send("echo $KEPT $PWD\n")
        await reader.until(r"yes /mnt/workspace\r\n")
        await shell.send("touch go; wait\n")
        await reader.until("while away\r\n")
        await shell.send("exit\n")
        await reader.to_end()
        equal(shell.exit_code, 0)

    await open_and(first, session_id=session, shell_id="kept")
    await open_and(second, session_id=session, shell_id="kept", auth=PresignedAuth())
    equal([one["reconnected"] for one in confirmations], [False, True])


async def last_words():
    """Whoever types and hangs up at once has typed."""
    session = str(uuid.uuid4())

    async def first(shell):
        await quiet(shell)
        for number in range(50):
            await shell.send(f"echo word-{number} | tee -a /mnt/workspace/words\n")

    async def second(shell):
        reader = await quiet(shell)
        await shell.send("wc -l < /mnt/workspace/words\n")
        await reader.until(r"(?<!\d)50\r\n")

    await open_and(first, session_id=session, shell_id="hasty")
    await open_and(second, session_id=session, shell_id="hasty")


async def reconnects(how):
    """The connection breaks while a program prints; the SDK comes back to the same shell, and no line is missing."""
    returns = []
    config = ReconnectConfig(base_delay=0.2, max_delay=1.0, outer_loop_delay=0.2, on_reconnect=lambda: returns.append(1))

    async def use(shell):
        reader = await quiet(shell)
        identity = (shell.session_id, shell.shell_id)
        await shell.send("SET=41; for i in {1..400}; do echo line-$i-; sleep 0.01; done; echo all do''ne\n")
        await reader.until("line-20-\r\n")
        breaking = asyncio.create_task(ask(how))
        seen = await reader.up_to("all done\r\n")
        await breaking
        missing = [number for number in range(21, 401) if f"line-{number}-\r\n" not in seen]
        equal(missing, [])
        # From the first line of the second connection on, every line comes once and in order.
        numbers = [int(number) for number in re.findall(r"line-(\d+)-", seen)]
        equal(numbers[-200:], list(range(201, 401)))
        await shell.send("echo $((SET + 1))\n")
        await reader.until(r"42\r\n")
        equal((shell.session_id, shell.shell_id), identity)
        equal(len(returns) >= 1, True)
        await shell.send("exit 3\n")
        await reader.to_end()
        equal(shell.exit_code, 3)

    await open_and(use, reconnect_config=config)
    equal([one["reconnected"] for one in confirmations][:2], [False, True])
    assert all(one.get("bytesDropped", 0) == 0 for one in confirmations), confirmations


async def reconnect_after_cut():
    await reconnects("cut")


async def reconnect_after_kill():
    await reconnects("kill-server")


async def reconnect_after_restart():
    await reconnects("restart-server")


async def resize():
    async def use(shell):
        reader = await quiet(shell)
        await shell.resize(132, 43)
        await shell.send("stty size; trap 'echo changed $(stty size)' WINCH; echo trap''ped\n")
        await reader.until(r"43 132\r\n")
        await reader.until(r"trapped\r\n")
        await shell.resize(99, 7)
        await shell.send("\n")
        await reader.until(r"changed 7 99\r\n")

    await open_and(use)


async def kicked():
    session = str(uuid.uuid4())

    async def first(shell):
        reader = await quiet(shell)
        await shell.send("OWNER=first; echo re''ady\n")
        await reader.until(r"ready\r\n")

        async def second(other):
            await reader.to_end()
            equal((shell.kicked, shell.exit_code), (True, None))
            again = Reader(other)
            await other.send("echo $OWNER\n")
            await again.until(r"first\r\n")
            await other.send("exit 0\n")
            await again.to_end()
            equal((other.kicked, other.exit_code), (False, 0))

        # Reconnecting is allowed, and must not happen.
        config = ReconnectConfig(base_delay=0.05)
        shell._reconnect_config = config
        await open_and(second, session_id=session, shell_id="shared", reconnect_config=config)

    await open_and(first, session_id=session, shell_id="shared")
    equal([one["reconnected"] for one in confirmations], [False, True])


async def heartbeat():
    async def use(shell):
        await quiet(shell)
        for _ in range(3):
            await shell._ws.send(ShellFramer().encode_heartbeat())
        await shell.send("echo la''st\n")
        answers, text = 0, b""
        while b"last" not in text or answers < 3:
            frame = await asyncio.wait_for(shell._ws.recv(), 20)
            answers += frame == b"\x05"
            text += frame[1:]
        equal(answers, 3)
        # Pings are answered while a program fills the terminal.
        await shell.send("yes\n")
        await (await shell._ws.ping())

    await open_and(use)


async def much_output():
    async def use(shell):
        reader = await quiet(shell)
        await shell.send("head -c 3000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo all do''ne\n")
        seen = await reader.up_to("all done\r\n")
        equal(seen.count("x"), 3000000)
        assert reader.largest <= FRAME_MAX, reader.largest

    await open_and(use)


async def much_input():
    async def use(shell):
        reader = await quiet(shell)
        await shell.send("stty raw; echo re''ady; head -c 200000 | md5sum; stty sane\n")
        await reader.until("ready")
        data = os.urandom(200000)
        for start in range(0, len(data), FRAME_MAX - 1):
            await shell.send_bytes(data[start : start + FRAME_MAX - 1])
        import hashlib

        await reader.until(hashlib.md5(data).hexdigest())

    await open_and(use)


async def stopped():
    """StopRuntimeSession closes shells with 1001; the SDK then wakes the session, with its workspace."""
    session = str(uuid.uuid4())
    config = ReconnectConfig(base_delay=0.2)

    async def use(shell):
        reader = await quiet(shell)
        await shell.send("echo kept > /mnt/workspace/file; echo wri''tten\n")
        await reader.until(r"written\r\n")
        stop = client().stop_runtime_session
        equal((await asyncio.to_thread(stop, agentRuntimeArn=ARN, runtimeSessionId=session))["statusCode"], 200)
        reading = asyncio.create_task(reader.until(r"kept\r\n"))
        for _ in range(100):
            if len(confirmations) > 1 or reading.done():
                break
            await asyncio.sleep(0.1)
        await shell.send("cat /mnt/workspace/file\n")
        await reading

    await open_and(use, session_id=session, shell_id="one", reconnect_config=config)
    equal([one["reconnected"] for one in confirmations], [False, False])


async def refused():
    """What is refused is refused before the upgrade, as an AWS error."""

    async def check(status, name, **arguments):
        arn = arguments.pop("arn", ARN)
        try:
            async with client().open_shell(arn, **arguments):
                raise AssertionError("connected")
        except websockets.exceptions.InvalidStatus as error:
            response = error.response
            body = json.loads(response.body)
            equal((response.status_code, response.headers["x-amzn-errortype"]), (status, name))
            assert body["message"] and response.headers["x-amzn-requestid"], body
            return body

    await check(404, "ResourceNotFoundException", arn=ARN.rsplit("-", 1)[0] + "-zzzzzzzzzz")
    await check(404, "ResourceNotFoundException", endpoint_name="nowhere")
    await check(400, "ValidationException", session_id="short")
    # This runtime wants signatures.
    await check(403, "AccessDeniedException", auth=OAuthAuth(bearer_token="eyJ.eyJ.e30"))
    good = os.environ["AWS_SECRET_ACCESS_KEY"]
    os.environ["AWS_SECRET_ACCESS_KEY"] = "wrong" * 8
    await check(403, "AccessDeniedException")
    await check(403, "AccessDeniedException", auth=PresignedAuth())
    os.environ["AWS_SECRET_ACCESS_KEY"] = good


async def overflow():
    """Of what a detached shell prints, the newest 256 KiB come back, and the rest is counted."""
    session, marker = str(uuid.uuid4()), "/mnt/workspace/printed"

    async def first(shell):
        reader = await quiet(shell)
        await shell.send(f"(until [ -e {marker}.go ]; do sleep 0.02; done; seq 100000 200000; touch {marker}) &\n")
        await shell.send("echo set''\n")
        await reader.until(r"set\r\n")

    async def other(shell):
        reader = await quiet(shell)
        await shell.send(f"touch {marker}.go; until [ -e {marker} ]; do sleep 0.02; done; echo prin''ted\n")
        await reader.until(r"printed\r\n")

    async def second(shell):
        reader = Reader(shell)
        await shell.send("echo all do''ne\n")
        seen = await reader.up_to("all done\r\n")
        assert "200000\r\n" in seen and "100000" not in seen, (len(seen), seen[:100])
        assert 200 * 1024 < len(seen) <= 256 * 1024 + 100, len(seen)
        numbers = [int(line) for line in re.findall(r"(?<=\n)\d{6}(?=\r)", seen)]
        equal(numbers, list(range(numbers[0], 200001)))
        # Eight bytes a line; the first one may be cut.
        dropped = max(one.get("bytesDropped", 0) for one in confirmations)
        missing = (numbers[0] - 100000) * 8
        assert missing - 8 <= dropped <= missing + 400, (dropped, missing)

    await open_and(first, session_id=session, shell_id="printing")
    await open_and(other, session_id=session, shell_id="other")
    await open_and(second, session_id=session, shell_id="printing")


async def limits():
    """Messages that break a rule end the connection with the code of that rule, and never the shell."""
    session = str(uuid.uuid4())

    async def closed_with(code, messages):
        async def use(shell):
            reader = await quiet(shell)
            await shell.send(f"COUNT=$((COUNT + 1)); echo counted-{code}\n")
            await reader.until(f"counted-{code}\r\n")
            try:
                for message in messages:
                    await shell._ws.send(message)
                while True:
                    await asyncio.wait_for(shell._ws.recv(), 30)
            except websockets.exceptions.ConnectionClosed as error:
                equal(error.rcvd and error.rcvd.code, code)

        await open_and(use, session_id=session, shell_id="limited")

    await closed_with(1009, [b"\x00" + b"x" * 65537])
    await closed_with(1003, ["text"] * 5)
    await closed_with(1008, [b"\x05"] * 400)

    async def counts(shell):
        reader = await quiet(shell)
        await shell.send("echo sum $COUNT\n")
        await reader.until(r"sum 3\r\n")
        # Neither does an unknown channel end it, nor a message that is no size.
        for message in (b"\x42unknown", b"\x04{", b"\x04{\"width\": 0, \"height\": -1}", b"\x02", b""):
            await shell._ws.send(message)
        await shell.send("echo still he''re\n")
        await reader.until(r"still here\r\n")

    await open_and(counts, session_id=session, shell_id="limited")


async def close_frame():
    """Older clients end the shell with the CLOSE frame before they hang up."""
    session = str(uuid.uuid4())

    async def closes(shell):
        await quiet(shell)
        await shell._ws.send(b"\xff")
        reader = Reader(shell)
        await reader.to_end()

    async def use(shell):
        await quiet(shell)

    await open_and(closes, session_id=session, shell_id="closed")
    await open_and(use, session_id=session, shell_id="closed")
    equal([one["reconnected"] for one in confirmations], [False, False])


async def eleventh():
    session = str(uuid.uuid4())
    shells = []
    try:
        for number in range(10):
            shell = client().open_shell(ARN, session_id=session, shell_id=f"shell-{number}")
            shells.append(await shell.__aenter__())
        try:
            async with client().open_shell(ARN, session_id=session, shell_id="one-more"):
                raise AssertionError("connected")
        except websockets.exceptions.InvalidStatus as error:
            equal(error.response.status_code, 424)
            equal(error.response.headers["x-amzn-errortype"], "RuntimeClientError")
            assert json.loads(error.response.body)["error"], error.response.body
        # A detached one counts; one that has ended does not.
        reader = Reader(shells[0])
        await shells[0].send("exit\n")
        await reader.to_end()

        async def works(shell):
            await quiet(shell)

        await open_and(works, session_id=session, shell_id="one-more")
    finally:
        for shell in shells:
            await shell.close()


if __name__ == "__main__":
    asyncio.run({name: value for name, value in globals().items() if callable(value)}[sys.argv[1]]())
