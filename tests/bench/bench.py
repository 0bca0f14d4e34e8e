"""Measures chopar beside Postfix, on loopback, in one run.

Both get the same load from smtp-source and deliver it into the same smtp-sink, in turn; the medians of the rounds are
printed with their ratio, and beside smtp-source straight into smtp-sink. Postfix runs from private folders, as it comes:
it needs root, and is left out with a word where it cannot run. Rates on a shared machine vary by a factor of two; CPU
time a message varies by much less and comes first.

    bench.py [--binary PATH] [--messages N] [--rounds N] [--queued N] [--peer-queued N] [--no-peer]

Every wait has a deadline and every process that is started is ended by its own id.
"""

import argparse
import contextlib
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

SESSIONS = 20
BODY_BYTES = 4096
TLS_SESSIONS = 500
PATIENCE_S = 60
TICKS = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))
TOOLS = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in
         ("openssl", "postfix", "postqueue", "sendmail", "smtp-sink", "smtp-source")}


class Missed(Exception):
    """Something did not happen within its time."""


def wait_for(what, look, limit=PATIENCE_S, pause=0.002):
    """Looks until there is something."""
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
    """Ends a child."""
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
    """The fields of /proc/PID/stat behind the name, or None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def tree(root):
    """A process and all below it."""
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


def cpu_s(root):
    """User and system time of a process and all below it, with those that have ended."""
    fields = [stat(pid) for pid in tree(root)]
    return sum(sum(map(int, one[11:15])) for one in fields if one) / TICKS


def memory_kib(root):
    """What a process and all below it hold, with what they share counted once."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M).group(1))
    return total


def end_tree(root):
    """Kills a process and all below it."""
    for pid in tree(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Sink:
    """smtp-sink, with its own count of messages read from a file."""

    def __init__(self, folder):
        self.port = free_port()
        self.path = os.path.join(folder, f"sink-{self.port}")
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(
                [TOOLS["smtp-sink"], *user, "-c", f"127.0.0.1:{self.port}", "1024"], stdout=out, stderr=out)
        wait_for("smtp-sink", lambda: greeted(self.port))

    def count(self):
        """How many messages have come."""
        with open(self.path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.path) - 200))
            counts = re.findall(rb"mesg=(\d+)\s", file.read() + b" ")
            return int(counts[-1]) if counts else 0

    def at_rest(self):
        """How many messages have come, once no more do."""
        count = -1
        while count != self.count():
            count = self.count()
            time.sleep(0.2)
        return count


def source(port, count, reuse, sender="load@source.test", to="sink@load.test", limit=PATIENCE_S):
    """Sends messages; returns the seconds that it took."""
    started = time.monotonic()
    run([TOOLS["smtp-source"], *(["-d"] if reuse else []), "-s", str(SESSIONS), "-m", str(count), "-l", str(BODY_BYTES),
         "-f", sender, "-t", to, "-M", "source.test", f"127.0.0.1:{port}"], limit)
    return time.monotonic() - started


class Chopar:
    """chopar in one folder."""

    name = "chopar"

    def __init__(self, binary, folder, sink, dead):
        self.binary = binary
        self.folder = os.path.join(folder, "chopar")
        self.config = os.path.join(self.folder, "config")
        self.port, self.tls_port = free_port(), free_port()
        self.process = None
        os.makedirs(os.path.join(self.config, "domains", "signed.test"))
        for link in ("sendmail", "mailq"):
            os.symlink(binary, os.path.join(self.folder, link))
        with open(os.path.join(self.config, "chopar.toml"), "w", encoding="ascii") as file:
            file.write(
                f'hostname = "mail.relay.test"\nstate_dir = "{self.folder}/state"\nruntime_dir = "{self.folder}/run"\n'
                f'user = "{pwd.getpwuid(os.geteuid()).pw_name}"\n'
                f'[listen]\nsmtp = ["127.0.0.1:{self.port}"]\nsubmission = []\n'
                f'submissions = ["127.0.0.1:{self.tls_port}"]\nstatus = []\n'
                '[relay]\nnetworks = ["127.0.0.0/8"]\n[dns]\nservers = ["127.0.0.1:9"]\n'
                f'[[route]]\ndomain = "load.test"\nvia = ["smtp://127.0.0.1:{sink}"]\n'
                f'[[route]]\ndomain = "dead.test"\nvia = ["smtp://127.0.0.1:{dead}"]\n')

    def keys(self):
        """Makes keys that sign for signed.test."""
        for algorithm in ("rsa", "ed25519"):
            self.command("dkim", "keygen", "signed.test", "--selector", algorithm, "--algorithm", algorithm)

    def command(self, *words):
        """Runs a command of chopar's."""
        return run([self.binary, "-C", self.config, *words])

    def start(self):
        """Starts; returns the seconds until it greeted."""
        with open(os.path.join(self.folder, "log"), "ab") as log:
            started = time.monotonic()
            self.process = subprocess.Popen([self.binary, "-C", self.config, "run"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        wait_for("chopar", lambda: greeted(self.port), pause=0.0005)
        return time.monotonic() - started

    def root(self):
        """The process that all others are below."""
        return self.process.pid

    def kill(self):
        """Ends it without a warning."""
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        """Ends it."""
        if self.process:
            end(self.process)

    def sendmail(self):
        """The command that programs call, with its environment."""
        return [os.path.join(self.folder, "sendmail"), "-t"], {**os.environ, "CHOPAR_CONFIG": self.config}


class Postfix:
    """Postfix in one folder."""

    name = "Postfix " + (run(["/usr/sbin/postconf", "-dh", "mail_version"]).strip() if TOOLS["postfix"] else "")

    def __init__(self, folder, sink, dead):
        self.folder = os.path.join(folder, "postfix")
        self.config, self.queue = os.path.join(self.folder, "config"), os.path.join(self.folder, "queue")
        data = os.path.join(self.folder, "data")
        self.port, self.tls_port = free_port(), free_port()
        for path in (self.config, self.queue, data):
            os.makedirs(path)
        shutil.chown(data, "postfix")
        key, cert = os.path.join(self.config, "key.pem"), os.path.join(self.config, "cert.pem")
        run([TOOLS["openssl"], "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
             "2", "-subj", "/CN=mail.relay.test", "-keyout", key, "-out", cert])
        with open(os.path.join(self.config, "transport"), "w", encoding="ascii") as file:
            file.write(f"dead.test smtp:[127.0.0.1]:{dead}\n")
        with open(os.path.join(self.config, "main.cf"), "w", encoding="ascii") as file:
            file.write(
                f"compatibility_level = 3.6\nqueue_directory = {self.queue}\ndata_directory = {data}\n"
                "myhostname = mail.relay.test\nmydestination =\nmynetworks = 127.0.0.0/8\nalias_maps =\n"
                f"relayhost = [127.0.0.1]:{sink}\ntransport_maps = texthash:{self.config}/transport\n"
                f"smtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}\n")
        with open("/etc/postfix/master.cf.proto", encoding="utf-8") as file:
            services = file.read()
        services = re.sub(r"^smtp +inet.*$",
                          f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
                          f"127.0.0.1:{self.tls_port} inet n - n - {TLS_SESSIONS + 20} smtpd\n"
                          f"  -o smtpd_tls_wrappermode=yes -o smtpd_client_connection_count_limit=0", services, flags=re.M)
        # Nothing runs in a changed root: the folders are not furnished for one.
        services = re.sub(r"^(\S+ +\S+ +\S+ +\S+ +)y( .*)$", r"\1n\2", services, flags=re.M)
        with open(os.path.join(self.config, "master.cf"), "w", encoding="utf-8") as file:
            file.write(services)
        # Packaged as it is, Postfix looks for these beside main.cf.
        for name in ("dynamicmaps.cf", "postfix-files"):
            shutil.copy(os.path.join("/etc/postfix", name), self.config)
        for name in ("dynamicmaps.cf.d", "postfix-files.d"):
            os.makedirs(os.path.join(self.config, name), exist_ok=True)

    def start(self):
        """Starts; returns the seconds until it greeted."""
        started = time.monotonic()
        run([TOOLS["postfix"], "-c", self.config, "start"], stdin=subprocess.DEVNULL)
        wait_for("Postfix", lambda: greeted(self.port), pause=0.0005)
        return time.monotonic() - started

    def root(self):
        """The process that all others are below."""
        with open(os.path.join(self.queue, "pid", "master.pid"), encoding="ascii") as file:
            return int(file.read())

    def kill(self):
        """Ends it without a warning."""
        root = self.root()
        end_tree(root)
        wait_for("Postfix to end", lambda: stat(root) is None or stat(root)[0] == "Z")

    def stop(self):
        """Ends it."""
        with contextlib.suppress(OSError, Missed):
            self.kill()

    def sendmail(self):
        """The command that programs call, with its environment."""
        return [TOOLS["sendmail"], "-t"], {**os.environ, "MAIL_CONFIG": self.config}


class Figures:
    """What was measured: by the name of the figure, then of who."""

    def __init__(self):
        self.values, self.units = {}, {}

    def add(self, what, unit, who, value):
        """Notes a value; of several the median counts."""
        self.units[what] = unit
        self.values.setdefault(what, {}).setdefault(who, []).append(value)

    def median(self, what, who):
        """The median, or None."""
        values = self.values.get(what, {}).get(who)
        return statistics.median(values) if values else None

    def print(self, relays):
        """One line each."""
        print(f"\n{'median':44} {'':4}", *(f"{name:>14}" for name in relays), f"{'ratio':>8} {'direct':>8} {'share':>7}")
        for what, unit in sorted(self.units.items(), key=lambda row: not row[0].startswith("CPU")):
            cells = [self.median(what, name) for name in relays]
            ratio = f"{cells[0] / cells[1]:8.2f}" if len(cells) > 1 and cells[0] and cells[1] else " " * 8
            direct = self.median(what, "direct")
            beside = f"{direct:8,.0f} {100 * cells[0] / direct:6.0f}%" if direct and cells[0] else ""
            print(f"{what:44} {unit:4}", *(f"{shown(cell):>14}" for cell in cells), ratio, beside)


def shown(value):
    """A number with three or four digits that mean something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def load(relay, sink, count, reuse, sender="load@source.test"):
    """Sends messages through a relay; returns accepted/s, delivered/s and CPU milliseconds a message."""
    base, cpu, times = sink.at_rest(), cpu_s(relay.root()), {}

    def watch():
        with contextlib.suppress(Missed):
            wait_for("deliveries", lambda: sink.count() - base >= count, 2 * PATIENCE_S, 0.01)
            times["delivered"] = time.monotonic()

    watcher = threading.Thread(target=watch)
    started = time.monotonic()
    watcher.start()
    accepted = source(relay.port, count, reuse, sender, limit=2 * PATIENCE_S)
    watcher.join()
    if "delivered" not in times:
        raise Missed(f"{relay.name} delivered {sink.count() - base} of {count}")
    # What is done behind the last delivery belongs to it.
    time.sleep(0.5)
    return count / accepted, count / (times["delivered"] - started), 1000 * (cpu_s(relay.root()) - cpu) / count


def rounds(figures, relays, sink, options):
    """The load, in turn."""
    for number in range(options.rounds):
        for reuse in (False, True):
            mode = "sessions reused" if reuse else "a session a message"
            taken = source(sink.port, options.messages, reuse)
            figures.add(f"accepted, {mode}", "/s", "direct", options.messages / taken)
            figures.add(f"delivered, {mode}", "/s", "direct", options.messages / taken)
            for relay in relays:
                count = options.messages if relay.name == "chopar" else max(SESSIONS, options.messages * 3 // 10)
                accepted, delivered, cpu = load(relay, sink, count, reuse)
                figures.add(f"CPU a thousand messages, {mode}", "s", relay.name, cpu)
                figures.add(f"accepted, {mode}", "/s", relay.name, accepted)
                figures.add(f"delivered, {mode}", "/s", relay.name, delivered)
                print(f"round {number + 1}, {mode}: {relay.name}: {cpu:.3f} CPU s a thousand, {accepted:,.0f} accepted/s, "
                      f"{delivered:,.0f} delivered/s", flush=True)


def signed(figures, chopar, sink, options):
    """The load with two signatures a message, and what one of them alone costs."""
    words = run([TOOLS["openssl"], "speed", "-seconds", "1", "-multi", str(CORES), "rsa2048"], stderr=subprocess.DEVNULL)
    rate = float(re.search(r"rsa 2048 bits\s+\S+\s+\S+\s+([\d.]+)", words).group(1))
    chopar.stop()
    chopar.keys()
    chopar.start()
    for _ in range(options.rounds):
        accepted, delivered, cpu = load(chopar, sink, options.messages, True, "load@signed.test")
        figures.add("CPU a thousand messages, signed twice", "s", chopar.name, cpu)
        figures.add("accepted, signed twice, reused", "/s", chopar.name, accepted)
        figures.add("delivered, signed twice, reused", "/s", chopar.name, delivered)
    delivered = figures.median("delivered, signed twice, reused", chopar.name)
    signing = (figures.median("CPU a thousand messages, signed twice", chopar.name)
               - figures.median("CPU a thousand messages, sessions reused", chopar.name))
    allowed = 1000 * CORES / signing
    print(f"signed with RSA-2048 and Ed25519: delivered {delivered:,.0f}/s. The signatures take {signing:.3f} ms of CPU a "
          f"message; alone they would allow {allowed:,.0f}/s on {CORES} cores: {100 * delivered / allowed:.0f} % of that. "
          f"openssl speed: {rate:,.0f} RSA-2048 signatures/s: {100 * delivered / rate:.0f} % of that", flush=True)


def memory(figures, relay):
    """Resident memory idle and with TLS sessions that say nothing."""
    time.sleep(0.5)
    idle = memory_kib(relay.root())
    figures.add("resident, idle", "MiB", relay.name, idle / 1024)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        for _ in range(TLS_SESSIONS):
            plain = socket.create_connection(("127.0.0.1", relay.tls_port), 20)
            secure = stack.enter_context(context.wrap_socket(plain))
            secure.settimeout(20)
            if not secure.recv(1000).startswith(b"220"):
                raise Missed("no banner over TLS")
            secure.sendall(b"EHLO client.test\r\n")
            if not secure.recv(4000).startswith(b"250"):
                raise Missed("no answer to EHLO over TLS")
        full = memory_kib(relay.root())
    figures.add(f"resident, {TLS_SESSIONS} open TLS sessions", "MiB", relay.name, full / 1024)
    figures.add("a TLS session", "KiB", relay.name, (full - idle) / TLS_SESSIONS)


def start_and_sendmail(figures, relay):
    """Start to greeting, and how long a program waits for sendmail."""
    for _ in range(5):
        relay.stop()
        figures.add("start to greeting", "ms", relay.name, 1000 * relay.start())
    command, environment = relay.sendmail()
    message = b"From: load@source.test\nTo: sink@load.test\nSubject: bench\n\nhello\n"
    for _ in range(20):
        started = time.monotonic()
        run(command, input=message, env=environment)
        figures.add("sendmail -t", "ms", relay.name, 1000 * (time.monotonic() - started))


def queued(figures, relay, sink, options):
    """Memory, cost of a message and a restart with a long queue that has nowhere to go."""
    count = options.queued if relay.name == "chopar" else options.peer_queued
    if not count:
        return
    few = min(1000, count)
    for more, now in ((few, few), (count - few, count)):
        if more:
            source(relay.port, more, True, to="sink@dead.test", limit=5 * PATIENCE_S)
        time.sleep(2)
        figures.add(f"resident, {now:,} queued", "MiB", relay.name, memory_kib(relay.root()) / 1024)
        _, _, cpu = load(relay, sink, options.messages if relay.name == "chopar" else 500, True)
        figures.add(f"CPU a thousand more, {now:,} queued", "s", relay.name, cpu)
    relay.kill()
    figures.add(f"ready after kill -9, {count:,} queued", "s", relay.name, relay.start())
    figures.add(f"resident after it, {count:,} queued", "MiB", relay.name, memory_kib(relay.root()) / 1024)


def unsynced():
    """Names the relays here whose 250 promises less, so that nobody takes their rates for the same thing."""
    for package, program in (("opensmtpd", "/usr/sbin/smtpd"), ("chasquid", "/usr/bin/chasquid")):
        if os.path.exists(program):
            version = run(["dpkg-query", "-W", "-f", "${Version}", package]).strip()
            print(f"{package} {version} is installed and left out: it answers 250 before the message is synced to the disk")


def peers(folder, sink, dead, options):
    """The servers to compare with that can run here."""
    if options.no_peer:
        return []
    if not TOOLS["postfix"] or not os.path.exists("/etc/postfix/master.cf.proto"):
        print("Postfix is not installed, and is left out")
        return []
    if os.geteuid() != 0:
        print("Postfix starts for root only, and is left out")
        return []
    return [Postfix(folder, sink, dead)]


def measure(options, folder):
    """Everything, in order."""
    unsynced()
    figures, dead, sink, relays = Figures(), free_port(), Sink(folder), []
    try:
        relays = [Chopar(options.binary, folder, sink.port, dead), *peers(folder, sink.port, dead, options)]
        for relay in relays:
            relay.start()
        for relay in relays:
            source(relay.port, 5 * SESSIONS, True)
        wait_for("the first messages", lambda: sink.count() >= 5 * SESSIONS * len(relays))
        rounds(figures, relays, sink, options)
        for relay in relays:
            start_and_sendmail(figures, relay)
            relay.stop()
            relay.start()
            memory(figures, relay)
            # A process a session, as Postfix has them, outlives the session.
            relay.stop()
            relay.start()
        signed(figures, relays[0], sink, options)
        for relay in relays:
            queued(figures, relay, sink, options)
        figures.add("binary", "MiB", "chopar", os.path.getsize(options.binary) / 1048576)
        figures.print([relay.name for relay in relays])
    finally:
        for relay in relays:
            relay.stop()
        end(sink.process)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures chopar beside Postfix, on loopback.")
    parser.add_argument("--binary", default=os.environ.get("CHOPAR_BINARY"), help="chopar (default: CHOPAR_BINARY)")
    parser.add_argument("--messages", type=int, default=5000, help="messages a round; Postfix gets three tenths")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queued", type=int, default=100_000, help="chopar's long queue; 0 leaves it out")
    parser.add_argument("--peer-queued", type=int, default=10_000, help="Postfix's long queue; 0 leaves it out")
    parser.add_argument("--no-peer", action="store_true", help="chopar alone")
    parser.add_argument("--dir", help="where the throwaway folder is made; the disk under it is what is measured")
    options = parser.parse_args()
    if not options.binary or not os.access(options.binary, os.X_OK):
        parser.error("--binary or CHOPAR_BINARY has to name chopar's release binary")
    options.binary = os.path.abspath(options.binary)
    return options


def main():
    """Runs; 0 when everything was measured."""
    options = arguments()
    missing = [name for name in ("openssl", "smtp-sink", "smtp-source") if not TOOLS[name]]
    if missing:
        sys.exit(f"missing: {' '.join(missing)}; the Debian packages postfix and openssl have them")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    folder = tempfile.mkdtemp(prefix="chopar-bench-", dir=options.dir)
    # Postfix's processes change their account and have to pass through.
    os.chmod(folder, 0o755)
    print(f"{time.strftime('%Y-%m-%d')}, {CORES} cores, load {os.getloadavg()[0]:.1f}; {SESSIONS} sessions, "
          f"{BODY_BYTES} bytes, {options.messages} messages, {options.rounds} rounds")
    try:
        measure(options, folder)
    except (Missed, OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"bench: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
