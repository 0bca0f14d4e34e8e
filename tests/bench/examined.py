"""Mail of an unauthenticated client: verified with SPF, DKIM and DMARC, and forwarded by an alias under a rewritten
envelope sender. chopar also seals it. It is compared with Debian's Postfix, opendkim, opendmarc and postsrsd, which do
not seal (openarc is not packaged).

unbound on a loopback address of its own answers DNS queries. chopar has its address in the configuration; the others use
/etc/resolv.conf, and get one of their own in a mount namespace. Every message that arrives is checked.
"""

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass

from relays import HOSTNAME, Chopar, Postfix
from world import BODY_BYTES, TOOLS, Mail, Missed, end, end_tree, free_port, run, wait_for

# The address of the name server, at port 53: resolv.conf cannot name another port.
DNS_ADDRESS = "127.53.0.1"
WRITER, FORWARDER, READER = "source.example", "forward.example", "load.example"
MAIL = Mail(f"load@{WRITER}", f"box@{FORWARDER}", WRITER)
# Debian packages for the compared relays.
PEER_TOOLS = ("opendkim", "opendmarc", "postsrsd", "unshare")


class Names:
    """unbound, with the author's records."""

    def __init__(self, folder, records):
        path = os.path.join(folder, "unbound.conf")
        records = records.replace("(\n", "").replace("\n)", "").replace("\n\t", " ")
        lines = [f'{WRITER}. A 127.0.0.1', f'{WRITER}. MX 10 {WRITER}.', f'{WRITER}. TXT "v=spf1 ip4:127.0.0.1 -all"',
                 f'_dmarc.{WRITER}. TXT "v=DMARC1; p=reject"', f'{HOSTNAME}. A 127.0.0.1', *records.splitlines()]
        with open(path, "w", encoding="ascii") as file:
            file.write(f'server:\n interface: {DNS_ADDRESS}@53\n do-daemonize: no\n username: ""\n chroot: ""\n'
                       f' directory: "{folder}"\n pidfile: ""\n use-syslog: no\n num-threads: 1\n'
                       ' module-config: "iterator"\n access-control: 127.0.0.0/8 allow\n local-zone: "." static\n'
                       f' local-data-ptr: "127.0.0.1 {WRITER}"\n'
                       + "".join(f" local-data: '{line.strip()}'\n" for line in lines if line.strip())
                       + "remote-control:\n control-enable: no\n")
        self.resolv_conf = os.path.join(folder, "resolv.conf")
        with open(self.resolv_conf, "w", encoding="ascii") as file:
            file.write(f"nameserver {DNS_ADDRESS}\n")
        self.log = os.path.join(folder, "unbound.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([TOOLS["unbound"], "-c", path, "-d"], stdout=log, stderr=log)
        wait_for(f"unbound at {DNS_ADDRESS}", lambda: "start of service" in self.said())
        if self.process.poll() is not None:
            raise Missed(f"unbound ended: {self.said()}")

    def said(self):
        """The end of its log."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()[-500:]


@dataclass
class Daemon:
    """A daemon that Postfix uses."""

    name: str
    words: list


class Forwarder(Postfix):
    """Postfix with opendkim, opendmarc and postsrsd."""

    name = "Postfix, opendkim, opendmarc, postsrsd"

    def __init__(self, folder, sink, names):
        self.prefix = self.with_names(names)
        # postsrsd does not wait for its children. In a PID namespace of its own they end with it.
        self.beside = self.with_names(names, "--pid", "--fork")
        self.daemons, self.running = [], []
        os.makedirs(folder)
        forward, reverse = free_port(), free_port()
        milters = [self.milter(folder, name) for name in ("opendkim", "opendmarc")]
        secret = self.file(folder, "srs-secret", "a secret that nobody else has\n")
        self.daemons.append(Daemon("postsrsd", ["-4", "-s", secret, "-d", FORWARDER, "-f", str(forward), "-r", str(reverse),
                                                "-u", "postsrsd"]))
        aliases = self.file(folder, "aliases", f"{MAIL.to} sink@{READER}\n")
        super().__init__(
            folder, sink,
            f"mynetworks = 192.0.2.1/32\nvirtual_alias_domains = {FORWARDER}\nvirtual_alias_maps = texthash:{aliases}\n"
            f"smtpd_milters = {' '.join(milters)}\nmilter_default_action = tempfail\n"
            f"sender_canonical_maps = tcp:127.0.0.1:{forward}\nsender_canonical_classes = envelope_sender\n"
            f"recipient_canonical_maps = tcp:127.0.0.1:{reverse}\n"
            "recipient_canonical_classes = envelope_recipient,header_recipient\n")

    @staticmethod
    def with_names(names, *words):
        """Words before a command that must use our DNS."""
        return (TOOLS["unshare"], "--mount", *words, "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"',
                names.resolv_conf)

    @staticmethod
    def file(folder, name, text):
        """A file that all daemons can read."""
        path = os.path.join(folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def milter(self, folder, name):
        """Sets up a milter as Debian does, except for its address; returns the address."""
        home = os.path.join(folder, name)
        os.makedirs(home)
        shutil.chown(home, name)
        # Otherwise both treat 127.0.0.1 as a local host and do not verify its mail.
        hosts = self.file(home, "hosts", "192.0.2.1\n")
        address = f"local:{home}/socket"
        own = {
            "opendkim": f"Mode v\nCanonicalization relaxed/simple\nOversignHeaders From\nSyslogSuccess yes\n"
                        f"Nameservers {DNS_ADDRESS}\nInternalHosts {hosts}\nUMask 000\n",
            "opendmarc": f"IgnoreHosts {hosts}\nTrustedAuthservIDs {HOSTNAME}\nSPFIgnoreResults true\n"
                         "SPFSelfValidate true\nRejectFailures true\nUMask 000\n"
                         "PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat\n",
        }[name]
        config = self.file(home, "conf", f"Syslog yes\nUserID {name}\nSocket {address}\nAuthservID {HOSTNAME}\n{own}")
        self.daemons.append(Daemon(name, ["-f", "-c", config] if name == "opendmarc" else ["-f", "-x", config]))
        return f"unix:{home}/socket"

    def start(self):
        for daemon in self.daemons:
            with open(os.path.join(self.folder, f"{daemon.name}.log"), "ab") as log:
                self.running.append(subprocess.Popen([*self.beside, TOOLS[daemon.name], *daemon.words], stdout=log, stderr=log,
                                                     stdin=subprocess.DEVNULL))
        for name in ("opendkim", "opendmarc"):
            wait_for(name, lambda name=name: os.path.exists(os.path.join(self.folder, name, "socket")))
        return super().start()

    def roots(self):
        return [*super().roots(), *(process.pid for process in self.running)]

    def stop(self):
        super().stop()
        for process in self.running:
            end_tree(process.pid)
            process.wait(10)
        self.running = []


def write_message(chopar, folder):
    """Writes a message signed by the author, for smtp-source; returns its path and the DNS records of the key."""
    records = chopar.keys(WRITER, "rsa")
    line = b"The quick brown fox jumps over the lazy dog, then once more for good measure.\n"
    text = (f"From: Load <load@{WRITER}>\nTo: Box <{MAIL.to}>\nSubject: measured\n"
            f"Date: Tue, 24 Nov 2026 14:00:00 +0000\nMessage-ID: <one@{WRITER}>\nMIME-Version: 1.0\n"
            "Content-Type: text/plain; charset=us-ascii\n\n").encode() + (line * (BODY_BYTES // len(line) + 1))[:BODY_BYTES - 1]
    path = os.path.join(folder, "signed.eml")
    signed = run([chopar.binary, "-C", chopar.config, "dkim", "sign"], input=text + b"\n")
    with open(path, "w", encoding="ascii", newline="") as file:
        file.write(signed.replace("\r\n", "\n"))
    # The relay must know the author as any other domain, through the DNS.
    shutil.rmtree(os.path.join(chopar.config, "domains", WRITER))
    return path, records


def check(messages, count, sealed):
    """Checks that every message arrived, under a rewritten sender and with its results."""
    messages = list(messages)
    if len(messages) != count:
        raise Missed(f"{len(messages)} of {count} messages arrived")
    for text in messages:
        header = text.replace("\r\n", "\n").partition("\n\n")[2 if text.startswith("\n") else 0].replace("\n\t", " ")
        header = header.replace("\n ", " ")
        results = " ".join(line for line in header.splitlines()
                           if line.lower().startswith("authentication-results:") and HOSTNAME in line)
        wanted = {"an SRS sender": "X-Mail-Args: <SRS0=" in header, "a seal": not sealed or "\nARC-Seal: " in header,
                  **{word: word in results for word in ("spf=pass", "dkim=pass", "dmarc=pass")}}
        missing = [what for what, there in wanted.items() if not there]
        if missing:
            raise Missed(f"a forwarded message lacks {', '.join(missing)}:\n{header}")


def relays(binary, folder, sink, with_peers):
    """chopar and the installed peers, with the mail to send and the DNS; stops them all at the end."""
    missing = [name for name in PEER_TOOLS if not TOOLS[name]]
    chopar = Chopar(binary, os.path.join(folder, "chopar-examined"),
                    f'[relay]\nnetworks = []\n[dns]\nservers = ["{DNS_ADDRESS}:53"]\n'
                    "[abuse]\nconnections_per_minute = 0\nmessages_per_minute = 0\nrecipients_per_minute = 0\n"
                    f'[[route]]\ndomain = "{READER}"\nvia = ["smtp://127.0.0.1:{sink}"]\n')
    chopar.keys(FORWARDER, "rsa")
    with open(os.path.join(chopar.config, "domains", FORWARDER, "aliases"), "w", encoding="ascii") as file:
        file.write(f"box: sink@{READER}\n")
    path, records = write_message(chopar, folder)
    names = Names(folder, records)
    found = [chopar]
    if with_peers and missing:
        print(f"examined and forwarded: {' '.join(missing)} not found (Debian packages of these names; unshare is in "
              "util-linux): chopar alone")
    elif with_peers:
        found.append(Forwarder(os.path.join(folder, "forwarder"), sink, names))
        print("examined and forwarded: the peers do not seal: " + (
            "openarc is installed, but no Debian package of it says how it is set up" if TOOLS["openarc"]
            else "openarc is not in Debian"))
    return names, found, Mail(MAIL.sender, MAIL.to, MAIL.hello, path)


def unavailable():
    """Why the row cannot be measured; None if it can."""
    if not TOOLS["unbound"]:
        return "unbound not found (Debian package of this name)"
    if os.geteuid() != 0:
        return "only root may answer at port 53"
    return None


def ended(names, found):
    """Stops all processes."""
    for relay in found:
        with contextlib.suppress(OSError):
            relay.stop()
    end(names.process)
