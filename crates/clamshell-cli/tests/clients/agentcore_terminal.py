"""`agentcore exec --it` in a terminal. Each function is one scenario, named by a test in `tests/it/clients/`."""

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import sys
import termios
import time

ARN = os.environ["CLAMSHELL_RUNTIME_ARN"]
PROGRAM = os.environ["CLAMSHELL_AGENTCORE"]
SESSION = "a-session-for-the-agentcore-terminal-1"


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, arguments, rows=31, columns=97):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(PROGRAM, [PROGRAM, *arguments])
        self.resize(rows, columns)
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self, deadline):
        """More text, or None at the end."""
        ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing more after {self.text[-3000:]!r}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        if not data:
            return None
        # Node's raw mode leaves output processing on, so line ends get one more return.
        self.text = re.sub(r"\r+\n", "\n", self.text + data.decode(errors="replace"))
        return data

    def until(self, pattern, limit=60):
        """Reads until the pattern is in what came; gives the match and forgets everything up to its end."""
        deadline = time.monotonic() + limit
        while not (match := re.search(pattern, self.text)):
            assert self.read(deadline) is not None, f"ended without {pattern!r}: {self.text[-3000:]!r}"
        self.text = self.text[match.end() :]
        return match

    def end(self, limit=60):
        """Reads to the end; gives the exit code."""
        deadline = time.monotonic() + limit
        while self.read(deadline) is not None:
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def equal(left, right):
    assert left == right, f"{left!r}\n  is not\n{right!r}"


def ask(what):
    print(f"@{what}", flush=True)
    equal(sys.stdin.readline(), "done\n")


def exec_it(*arguments):
    return Terminal(["exec", "--it", "--runtime", ARN, *arguments])


def connect(*arguments):
    terminal = exec_it(*arguments)
    session = terminal.until(r"\[connected · session (\S+) · ").group(1)
    return terminal, session


def terminal():
    shell, session = connect()
    assert len(session) >= 33
    shell.type("stty size; tty; echo $TERM\r")
    shell.until(r"31 97\n/dev/pts/\d+\n\S+\n")
    shell.resize(44, 133)
    os.kill(shell.pid, signal.SIGWINCH)
    shell.type("until [ \"$(stty size)\" = '44 133' ]; do sleep 0.05; done; echo resi''zed\r")
    shell.until(r"resized\n")
    # Ctrl+C goes to the program inside.
    shell.type("echo star''ted; sleep 600\r")
    shell.until(r"started\n")
    shell.type("\x03")
    # The shell may throw away what comes while it takes note of the signal, as in any terminal.
    shell.until(r"\^C[\s\S]*[#$] ")
    shell.type("echo interrupted $?\r")
    shell.until(r"interrupted 130\n")
    shell.type("exit 5\r")
    shell.until(r"\[session closed · exit 5\]")
    equal(shell.end(), 1)
    # A shell that has ended is told as such, and a new one given in its place.
    shell = exec_it("--session-id", session, "--shell-id", "ended-before")
    shell.until(r"\[info\] Previous shell session has ended")
    shell.until(r"\[connected · ")
    shell.type("exit\r")
    shell.until(r"\[session closed · exit 0\]")
    equal(shell.end(), 0)


def detach_and_return():
    shell, session = connect("--session-id", SESSION)
    equal(session, SESSION)
    shell.type("KEPT=ye''s; cd /mnt/workspace; echo se''t\r")
    shell.until(r"set\n")
    shell.type("\x1d")
    shell.until(r"\[detached\]")
    hint = shell.until(r"(?s)\[to reconnect:\]\s+(agentcore exec --it .*--shell-id \S+)").group(1)
    equal(shell.end(), 0)
    arguments = shlex.split(hint.replace("\r", ""))[1:]
    equal(arguments[arguments.index("--session-id") + 1], SESSION)
    back = Terminal(arguments)
    back.until(r"\[connected · ")
    assert "Previous shell session has ended" not in back.text
    back.type("echo $KEPT $PWD\r")
    back.until(r"yes /mnt/workspace\n")
    back.type("exit\r")
    equal(back.end(), 0)


def kicked():
    first, _ = connect("--session-id", SESSION, "--shell-id", "shared")
    first.type("OWNER=fir''st; echo se''t\r")
    first.until(r"set\n")
    second, _ = connect("--session-id", SESSION, "--shell-id", "shared")
    first.until(r"\[disconnected\]")
    equal(first.end(), 0)
    second.type("echo $OWNER\r")
    second.until(r"first\n")
    second.type("exit\r")
    equal(second.end(), 0)


def killed_server():
    shell, _ = connect("--session-id", SESSION, "--shell-id", "survivor")
    shell.type("KEPT=ye''s; echo se''t\r")
    shell.until(r"set\n")
    ask("kill-server")
    # This client does not reconnect by itself; the shell waits for the next one.
    shell.end()
    back, _ = connect("--session-id", SESSION, "--shell-id", "survivor")
    assert "Previous shell session has ended" not in back.text
    back.type("echo $KEPT again\r")
    back.until(r"yes again\n")
    back.type("exit\r")
    equal(back.end(), 0)


if __name__ == "__main__":
    {name: value for name, value in globals().items() if callable(value)}[sys.argv[1]]()
