"""Verifies every FILE with opendkim-testmsg: UNBOUND CONFIGURATION OPENDKIM-TESTMSG FILE...

It uses the resolver of the system on port 53, so this script runs in namespaces of its own (unshare --mount --net).
OpenDKIM does not support Ed25519, so the script removes that signature, which precedes the signed fields.
"""

import fcntl
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

unbound, configuration, testmsg, *files = sys.argv[1:]

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    request = struct.pack("16sh14x", b"lo", 0)
    flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))

with tempfile.NamedTemporaryFile("w") as resolv_conf:
    resolv_conf.write("nameserver 127.0.0.1\n")
    resolv_conf.flush()
    subprocess.run(["mount", "--bind", resolv_conf.name, "/etc/resolv.conf"], check=True)
    server = subprocess.Popen([unbound, "-d", "-c", configuration], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", 53), 1).close()
                break
            except OSError:
                if time.monotonic() > end or server.poll() is not None:
                    sys.exit("unbound does not start on port 53")
                time.sleep(0.01)
        failed = False
        for path in files:
            with open(path, "rb") as file:
                message = file.read()
            ed25519 = rb"(?im)^DKIM-Signature:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n"
            kept = re.sub(ed25519, lambda field: b"" if b"ed25519" in field[0] else field[0], message)
            result = subprocess.run([testmsg, "-C"], input=kept, capture_output=True)
            print("pass" if result.returncode == 0 else "fail", path, result.stderr.decode(errors="replace").strip())
            failed |= result.returncode != 0
        sys.exit(failed)
    finally:
        server.kill()
        server.wait()
        subprocess.run(["umount", "/etc/resolv.conf"])
