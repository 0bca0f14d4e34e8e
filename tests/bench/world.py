"""The tools of a measurement: processes that are ended, waits with a deadline, a source and a sink."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

SESSIONS = 20
BODY_BYTES = 4096
TLS_SESSIONS = 500
PATIENCE_S = 60
TICKS = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))
TOOLS = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in
         ("openarc", "opendkim", "opendmarc", "openssl", "postfix", "postsrsd", "sendmail", "smtp-sink", "smtp-source", "unbound",
          "unshare")}


class Missed(Exception):
    """A wait that exceeded its deadline, or a failed command."""


def wait_for(what, look, limit=PATIENCE_S, pause=0.002):
    """Calls `look` until it returns a true value."""
    end = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Missed(f"waited {limit} s in vain for {what}")
        time.sleep(pause)


def run(command, limit=PATIENCE_S, **words):
    """Runs a command to its end and returns its standard output."""
    words.setdefault("stderr", subprocess.STDOUT)
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=limit, check=False, **words)
    if done.returncode:
        raise Missed(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:].decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def end(process):
    """Ends a child process."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def free_port():
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def greeted(port):
    """Whether an SMTP server answers there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False


def stat(pid):
    """The fields of /proc/PID/stat after the name, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def tree(root):
    """A process and all of its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        fields = stat(name) if name.isdigit() else None
        if fields:
            parents.setdefault(int(fields[1]), []).append(int(name))
    found, rest = [], [root]
    while rest:
        pid = rest.pop()
        found.append(pid)
        rest += parents.get(pid, [])
    return found


def cpu_s(roots):
    """User and system time of processes and their descendants, including ended ones."""
    fields = [stat(pid) for root in roots for pid in tree(root)]
    return sum(sum(map(int, one[11:15])) for one in fields if one) / TICKS


def memory_kib(roots):
    """Memory of processes and their descendants; shared memory counts once."""
    total = 0
    for pid in (pid for root in roots for pid in tree(root)):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M).group(1))
    return total


def end_tree(root):
    """Kills a process and all of its descendants."""
    for pid in tree(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Sink:
    """smtp-sink, which writes its count of messages to a file; it may keep each message as a file."""

    def __init__(self, folder, keep=False):
        self.port = free_port()
        self.path = os.path.join(folder, f"sink-{self.port}")
        self.kept = os.path.join(folder, f"kept-{self.port}")
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        if keep:
            os.mkdir(self.kept)
            if user:
                shutil.chown(self.kept, "nobody")
            user += ["-d", os.path.join(self.kept, "message.")]
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(
                [TOOLS["smtp-sink"], *user, "-c", f"127.0.0.1:{self.port}", "1024"], stdout=out, stderr=out)
        wait_for("smtp-sink", lambda: greeted(self.port))

    def count(self):
        """Number of messages that have arrived."""
        with open(self.path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.path) - 200))
            counts = re.findall(rb"mesg=(\d+)\s", file.read() + b" ")
            return int(counts[-1]) if counts else 0

    def take(self):
        """The messages kept since the last call."""
        for name in os.listdir(self.kept):
            path = os.path.join(self.kept, name)
            with open(path, encoding="utf-8", errors="replace") as file:
                yield file.read()
            os.unlink(path)

    def at_rest(self):
        """Number of messages, once no more arrive."""
        count = -1
        while count != self.count():
            count = self.count()
            time.sleep(0.2)
        return count


@dataclass
class Mail:
    """The message to send: a body of BODY_BYTES, or the content of a file."""

    sender: str = "load@source.test"
    to: str = "sink@load.test"
    hello: str = "source.test"
    file: str | None = None


def source(port, count, reuse, mail=Mail(), limit=PATIENCE_S):
    """Sends messages; returns the seconds taken."""
    started = time.monotonic()
    text = ["-F", mail.file] if mail.file else ["-l", str(BODY_BYTES)]
    run([TOOLS["smtp-source"], *(["-d"] if reuse else []), "-s", str(SESSIONS), "-m", str(count), *text,
         "-f", mail.sender, "-t", mail.to, "-M", mail.hello, f"127.0.0.1:{port}"], limit)
    return time.monotonic() - started
