"""The measured servers, each in one folder."""

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
import time

from world import TLS_SESSIONS, TOOLS, Missed, end, end_tree, free_port, greeted, run, stat, wait_for

HOSTNAME = "mail.relay.test"


class Chopar:
    """chopar in one folder."""

    name = "chopar"

    def __init__(self, binary, folder, tables):
        self.binary = binary
        self.folder = folder
        self.config = os.path.join(self.folder, "config")
        self.port, self.tls_port = free_port(), free_port()
        self.process = None
        os.makedirs(os.path.join(self.config, "domains"))
        for link in ("sendmail", "mailq"):
            os.symlink(binary, os.path.join(self.folder, link))
        with open(os.path.join(self.config, "chopar.toml"), "w", encoding="ascii") as file:
            file.write(
                f'hostname = "{HOSTNAME}"\nstate_dir = "{self.folder}/state"\nruntime_dir = "{self.folder}/run"\n'
                f'user = "{pwd.getpwuid(os.geteuid()).pw_name}"\n'
                f'[listen]\nsmtp = ["127.0.0.1:{self.port}"]\nsubmission = []\n'
                f'submissions = ["127.0.0.1:{self.tls_port}"]\nstatus = []\n'
                f'{tables}')

    def keys(self, domain, *algorithms):
        """Creates keys that sign for a domain; returns their DNS records."""
        os.makedirs(os.path.join(self.config, "domains", domain), exist_ok=True)
        for algorithm in algorithms:
            self.command("dkim", "keygen", domain, "--selector", algorithm, "--algorithm", algorithm)
        return self.command("dkim", "record", domain)

    def longest_turn_ms(self):
        """The longest turn of its event loop since its start, in wall-clock time."""
        return json.loads(self.command("queue", "stats", "--json"))["longest_turn_us"] / 1000

    def command(self, *words):
        """Runs a chopar command."""
        return run([self.binary, "-C", self.config, *words])

    def start(self):
        """Starts it; returns the seconds until its banner."""
        with open(os.path.join(self.folder, "log"), "ab") as log:
            started = time.monotonic()
            self.process = subprocess.Popen([self.binary, "-C", self.config, "run"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        wait_for("chopar", lambda: greeted(self.port), pause=0.0005)
        return time.monotonic() - started

    def roots(self):
        """The root processes of its process tree."""
        return [self.process.pid]

    def kill(self):
        """Kills it with SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        """Stops it."""
        if self.process:
            end(self.process)

    def sendmail(self):
        """The command that programs call, with its environment."""
        return [os.path.join(self.folder, "sendmail"), "-t"], {**os.environ, "CHOPAR_CONFIG": self.config}


class Postfix:
    """Postfix in one folder."""

    name = "Postfix " + (run(["/usr/sbin/postconf", "-dh", "mail_version"]).strip() if TOOLS["postfix"] else "")
    # Words before the commands that start it.
    prefix = ()

    def __init__(self, folder, sink, settings, transports=""):
        self.folder = folder
        self.config, self.queue = os.path.join(self.folder, "config"), os.path.join(self.folder, "queue")
        data = os.path.join(self.folder, "data")
        self.port, self.tls_port = free_port(), free_port()
        for path in (self.config, self.queue, data):
            os.makedirs(path)
        shutil.chown(data, "postfix")
        key, cert = os.path.join(self.config, "key.pem"), os.path.join(self.config, "cert.pem")
        run([TOOLS["openssl"], "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
             "2", "-subj", f"/CN={HOSTNAME}", "-keyout", key, "-out", cert])
        with open(os.path.join(self.config, "transport"), "w", encoding="ascii") as file:
            file.write(transports)
        with open(os.path.join(self.config, "main.cf"), "w", encoding="ascii") as file:
            file.write(
                f"compatibility_level = 3.6\nqueue_directory = {self.queue}\ndata_directory = {data}\n"
                f"myhostname = {HOSTNAME}\nmydestination =\nalias_maps =\n{settings}"
                f"relayhost = [127.0.0.1]:{sink}\ntransport_maps = texthash:{self.config}/transport\n"
                f"smtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}\n")
        with open("/etc/postfix/master.cf.proto", encoding="utf-8") as file:
            services = file.read()
        services = re.sub(r"^smtp +inet.*$",
                          f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
                          f"127.0.0.1:{self.tls_port} inet n - n - {TLS_SESSIONS + 20} smtpd\n"
                          f"  -o smtpd_tls_wrappermode=yes -o smtpd_client_connection_count_limit=0", services, flags=re.M)
        # No service runs in a chroot, since the folders are not prepared for one.
        services = re.sub(r"^(\S+ +\S+ +\S+ +\S+ +)y( .*)$", r"\1n\2", services, flags=re.M)
        with open(os.path.join(self.config, "master.cf"), "w", encoding="utf-8") as file:
            file.write(services)
        # Debian's Postfix expects these beside main.cf.
        for name in ("dynamicmaps.cf", "postfix-files"):
            shutil.copy(os.path.join("/etc/postfix", name), self.config)
        for name in ("dynamicmaps.cf.d", "postfix-files.d"):
            os.makedirs(os.path.join(self.config, name), exist_ok=True)

    def start(self):
        """Starts it; returns the seconds until its banner."""
        started = time.monotonic()
        run([*self.prefix, TOOLS["postfix"], "-c", self.config, "start"], stdin=subprocess.DEVNULL)
        wait_for("Postfix", lambda: greeted(self.port), pause=0.0005)
        return time.monotonic() - started

    def master(self):
        """The root process of its process tree."""
        with open(os.path.join(self.queue, "pid", "master.pid"), encoding="ascii") as file:
            return int(file.read())

    def roots(self):
        """The same process, as a list."""
        return [self.master()]

    def kill(self):
        """Kills it with SIGKILL."""
        root = self.master()
        end_tree(root)
        wait_for("Postfix to end", lambda: stat(root) is None or stat(root)[0] == "Z")

    def stop(self):
        """Stops it."""
        with contextlib.suppress(OSError, Missed):
            self.kill()

    def sendmail(self):
        """The command that programs call, with its environment."""
        return [TOOLS["sendmail"], "-t"], {**os.environ, "MAIL_CONFIG": self.config}
