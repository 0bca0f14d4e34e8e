"""Measures chopar beside Postfix, on loopback, in one run.

Both get the same load from smtp-source and deliver it to the same smtp-sink, in turn. The output has the medians of the
rounds, their ratio, and the rate of smtp-source directly to smtp-sink. Mail of unauthenticated clients, which is verified
and forwarded, has a row of its own (examined.py). Postfix runs from private folders with its default configuration. It
needs root; if it cannot run, that is printed and it is left out. Rates on a shared machine vary by a factor of two. CPU
time for each message varies by much less and comes first.

    bench.py [--binary PATH] [--messages N] [--rounds N] [--queued N] [--peer-queued N] [--no-peer] [--forwarded]

Every wait has a deadline, and every started process is ended by its own ID.
"""

import argparse
import contextlib
import os
import re
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import examined
from relays import Chopar, Postfix
from world import (BODY_BYTES, CORES, PATIENCE_S, SESSIONS, TLS_SESSIONS, TOOLS, Mail, Missed, Sink, cpu_s, end, free_port,
                   memory_kib, run, source, wait_for)


class Figures:
    """Measured values, by the name of the figure, then of the relay."""

    def __init__(self):
        self.values, self.units, self.turns = {}, {}, {}

    def add(self, what, unit, who, value):
        """Adds a value; the median of several counts."""
        self.units[what] = unit
        self.values.setdefault(what, {}).setdefault(who, []).append(value)

    def add_turn(self, row, relay):
        """Adds the longest turn of chopar's event loop since its start."""
        if isinstance(relay, Chopar):
            self.turns.setdefault(row, []).append(relay.longest_turn_ms())

    def median(self, what, who):
        """The median, or None."""
        values = self.values.get(what, {}).get(who)
        return statistics.median(values) if values else None

    def print(self, relays):
        """Prints one line for each figure."""
        print(f"\n{'median':44} {'':4}", *(f"{name:>14}" for name in relays), f"{'ratio':>8} {'direct':>8} {'share':>7}")
        for what, unit in sorted(self.units.items(), key=lambda row: not row[0].startswith("CPU")):
            cells = [self.median(what, name) for name in relays]
            ratio = f"{cells[0] / cells[1]:8.2f}" if len(cells) > 1 and cells[0] and cells[1] else " " * 8
            direct = self.median(what, "direct")
            beside = f"{direct:8,.0f} {100 * cells[0] / direct:6.0f}%" if direct and cells[0] else ""
            print(f"{what:44} {unit:4}", *(f"{shown(cell):>14}" for cell in cells), ratio, beside)
        print("\nlongest turn of chopar's event loop, by the clock on the wall, waits for a processor included")
        for row, turns in self.turns.items():
            print(f"{row:44} ms   {shown(max(turns)):>14}  {len(turns)} runs, their median {shown(statistics.median(turns))}")


def shown(value):
    """A number with three or four significant digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def load(relay, sink, count, reuse, mail=Mail()):
    """Sends messages through a relay; returns accepted/s, delivered/s and CPU milliseconds for each message."""
    base, cpu, times = sink.at_rest(), cpu_s(relay.roots()), {}

    def watch():
        with contextlib.suppress(Missed):
            wait_for("deliveries", lambda: sink.count() - base >= count, 2 * PATIENCE_S, 0.01)
            times["delivered"] = time.monotonic()

    watcher = threading.Thread(target=watch)
    started = time.monotonic()
    watcher.start()
    accepted = source(relay.port, count, reuse, mail, 2 * PATIENCE_S)
    watcher.join()
    if "delivered" not in times:
        raise Missed(f"{relay.name} delivered {sink.count() - base} of {count}")
    # The relay may still work on the last delivery.
    time.sleep(0.5)
    return count / accepted, count / (times["delivered"] - started), 1000 * (cpu_s(relay.roots()) - cpu) / count


def begin_row(relay, sink, mail=Mail()):
    """Restarts chopar, since the longest turn counts from the start, and sends the first messages."""
    if isinstance(relay, Chopar):
        relay.stop()
        relay.start()
        base = sink.at_rest()
        source(relay.port, 5 * SESSIONS, True, mail)
        wait_for("the first messages", lambda: sink.count() - base >= 5 * SESSIONS)


def rounds(figures, relays, sink, options):
    """The load, for each relay in turn."""
    for number in range(options.rounds):
        for reuse in (False, True):
            mode = "sessions reused" if reuse else "a session a message"
            taken = source(sink.port, options.messages, reuse)
            figures.add(f"accepted, {mode}", "/s", "direct", options.messages / taken)
            figures.add(f"delivered, {mode}", "/s", "direct", options.messages / taken)
            for relay in relays:
                count = options.messages if relay.name == "chopar" else max(SESSIONS, options.messages * 3 // 10)
                begin_row(relay, sink)
                accepted, delivered, cpu = load(relay, sink, count, reuse)
                figures.add(f"CPU a thousand messages, {mode}", "s", relay.name, cpu)
                figures.add(f"accepted, {mode}", "/s", relay.name, accepted)
                figures.add(f"delivered, {mode}", "/s", relay.name, delivered)
                figures.add_turn(mode, relay)
                print(f"round {number + 1}, {mode}: {relay.name}: {cpu:.3f} CPU s a thousand, {accepted:,.0f} accepted/s, "
                      f"{delivered:,.0f} delivered/s", flush=True)


def signed(figures, chopar, sink, options):
    """The load with two signatures for each message, and the cost of one of them alone."""
    words = run([TOOLS["openssl"], "speed", "-seconds", "1", "-multi", str(CORES), "rsa2048"], stderr=subprocess.DEVNULL)
    rate = float(re.search(r"rsa 2048 bits\s+\S+\s+\S+\s+([\d.]+)", words).group(1))
    chopar.keys("signed.test", "rsa", "ed25519")
    mail = Mail("load@signed.test")
    for _ in range(options.rounds):
        begin_row(chopar, sink, mail)
        accepted, delivered, cpu = load(chopar, sink, options.messages, True, mail)
        figures.add_turn("signed twice, reused", chopar)
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


def forwarded(figures, folder, options):
    """Mail of unauthenticated clients: verified, forwarded under a rewritten sender, and sealed by chopar."""
    why = examined.unavailable()
    if why:
        print(f"examined and forwarded: left out: {why}")
        return
    sink, row = Sink(folder, keep=True), "examined, forwarded"
    names, found, mail = examined.relays(options.binary, folder, sink.port, peers_are_here(options))
    try:
        for relay in found[1:]:
            relay.start()
            source(relay.port, 5 * SESSIONS, True, mail)
            wait_for("the first messages", lambda: sink.count() >= 5 * SESSIONS)
        for number in range(options.rounds):
            for relay in found:
                count = max(SESSIONS, options.messages * (4 if relay is found[0] else 2) // 10)
                begin_row(relay, sink, mail)
                list(sink.take())
                dns = cpu_s([names.process.pid])
                accepted, delivered, cpu = load(relay, sink, count, True, mail)
                dns = 1000 * (cpu_s([names.process.pid]) - dns) / count
                examined.check(sink.take(), count, sealed=relay is found[0])
                who = "chopar" if relay is found[0] else Postfix.name
                figures.add(f"CPU a thousand messages, {row}", "s", who, cpu)
                figures.add("CPU of the DNS server, not in the row above", "s", who, dns)
                figures.add(f"accepted, {row}", "/s", who, accepted)
                figures.add(f"delivered, {row}", "/s", who, delivered)
                figures.add(f"resident, {row}", "MiB", who, memory_kib(relay.roots()) / 1024)
                figures.add_turn(row, relay)
                print(f"round {number + 1}, {row}: {relay.name}: {cpu:.3f} CPU s a thousand (and the DNS {dns:.3f}), "
                      f"{accepted:,.0f} accepted/s, {delivered:,.0f} delivered/s; {count} of {count} arrived with an SRS "
                      "sender and spf, dkim and dmarc=pass", flush=True)
    finally:
        examined.ended(names, found)
        end(sink.process)


def memory(figures, relay):
    """Resident memory, idle and with idle TLS sessions."""
    time.sleep(0.5)
    idle = memory_kib(relay.roots())
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
        full = memory_kib(relay.roots())
        figures.add_turn(f"{TLS_SESSIONS} TLS sessions begun", relay)
    figures.add(f"resident, {TLS_SESSIONS} open TLS sessions", "MiB", relay.name, full / 1024)
    figures.add("a TLS session", "KiB", relay.name, (full - idle) / TLS_SESSIONS)


def start_and_sendmail(figures, relay):
    """Time from the start to the banner, and the time that a program waits for sendmail."""
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
    """Memory, cost for each message, and a restart, with a long queue that cannot be delivered."""
    count = options.queued if relay.name == "chopar" else options.peer_queued
    if not count:
        return
    few = min(1000, count)
    for more, now in ((few, few), (count - few, count)):
        if more:
            source(relay.port, more, True, Mail(to="sink@dead.test"), 5 * PATIENCE_S)
        time.sleep(2)
        figures.add(f"resident, {now:,} queued", "MiB", relay.name, memory_kib(relay.roots()) / 1024)
        _, _, cpu = load(relay, sink, options.messages if relay.name == "chopar" else 500, True)
        figures.add(f"CPU a thousand more, {now:,} queued", "s", relay.name, cpu)
        figures.add_turn(f"{now:,} queued", relay)
    relay.kill()
    figures.add(f"ready after kill -9, {count:,} queued", "s", relay.name, relay.start())
    figures.add(f"resident after it, {count:,} queued", "MiB", relay.name, memory_kib(relay.roots()) / 1024)


def unsynced():
    """Names installed relays whose 250 promises less, so that their rates are not compared."""
    for package, program in (("opensmtpd", "/usr/sbin/smtpd"), ("chasquid", "/usr/bin/chasquid")):
        if os.path.exists(program):
            version = run(["dpkg-query", "-W", "-f", "${Version}", package]).strip()
            print(f"{package} {version} is installed and left out: it answers 250 before the message is synced to the disk")


def peers_are_here(options):
    """Whether Postfix can run here."""
    return not options.no_peer and not lacks_postfix()


def lacks_postfix():
    """Why Postfix cannot run here; None if it can."""
    if not TOOLS["postfix"] or not os.path.exists("/etc/postfix/master.cf.proto"):
        return "is not installed (Debian package postfix)"
    return None if os.geteuid() == 0 else "starts for root only"


def servers(folder, sink, dead, options):
    """chopar, and those of the compared servers that can run here."""
    chopar = Chopar(options.binary, os.path.join(folder, "chopar"),
                    '[relay]\nnetworks = ["127.0.0.0/8"]\n[dns]\nservers = ["127.0.0.1:9"]\n'
                    f'[[route]]\ndomain = "load.test"\nvia = ["smtp://127.0.0.1:{sink}"]\n'
                    f'[[route]]\ndomain = "dead.test"\nvia = ["smtp://127.0.0.1:{dead}"]\n')
    if not peers_are_here(options):
        print(f"Postfix {lacks_postfix() or 'is not wanted'}, and is left out")
        return [chopar]
    return [chopar, Postfix(os.path.join(folder, "postfix"), sink, "mynetworks = 127.0.0.0/8\n",
                            f"dead.test smtp:[127.0.0.1]:{dead}\n")]


def measure(options, folder):
    """All measurements, in order."""
    unsynced()
    figures, dead, sink, relays = Figures(), free_port(), Sink(folder), []
    try:
        relays = servers(folder, sink.port, dead, options)
        for relay in relays:
            relay.start()
        for relay in relays:
            source(relay.port, 5 * SESSIONS, True)
        wait_for("the first messages", lambda: sink.count() >= 5 * SESSIONS * len(relays))
        if options.forwarded:
            for relay in relays:
                relay.stop()
            forwarded(figures, folder, options)
            figures.print([relay.name for relay in relays])
            return
        rounds(figures, relays, sink, options)
        for relay in relays:
            start_and_sendmail(figures, relay)
            relay.stop()
            relay.start()
            memory(figures, relay)
            # Postfix uses a process for each session, which outlives the session.
            relay.stop()
            relay.start()
        forwarded(figures, folder, options)
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
    """Parses the command line."""
    parser = argparse.ArgumentParser(description="Measures chopar beside Postfix, on loopback.")
    parser.add_argument("--binary", default=os.environ.get("CHOPAR_BINARY"), help="chopar (default: CHOPAR_BINARY)")
    parser.add_argument("--messages", type=int, default=5000, help="messages a round; Postfix gets three tenths")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queued", type=int, default=100_000, help="chopar's long queue; 0 leaves it out")
    parser.add_argument("--peer-queued", type=int, default=10_000, help="Postfix's long queue; 0 leaves it out")
    parser.add_argument("--forwarded", action="store_true", help="the row of mail that is examined and forwarded alone")
    parser.add_argument("--no-peer", action="store_true", help="chopar alone")
    parser.add_argument("--dir", help="where the throwaway folder is made; the disk under it is what is measured")
    options = parser.parse_args()
    if not options.binary or not os.access(options.binary, os.X_OK):
        parser.error("--binary or CHOPAR_BINARY has to name chopar's release binary")
    options.binary = os.path.abspath(options.binary)
    return options


def main():
    """Runs the measurements; returns 0 if all of them succeeded."""
    options = arguments()
    missing = [name for name in ("openssl", "smtp-sink", "smtp-source") if not TOOLS[name]]
    if missing:
        sys.exit(f"missing: {' '.join(missing)}; the Debian packages postfix and openssl have them")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    folder = tempfile.mkdtemp(prefix="chopar-bench-", dir=options.dir)
    # Postfix's processes change their account and must be able to enter the folder.
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
