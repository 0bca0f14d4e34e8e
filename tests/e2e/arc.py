"""Verifies or extends the ARC chain of the message FILE with dkimpy, with the DNS at 127.0.0.1:PORT.

arc.py verify PORT FILE: prints the status and its reason.
arc.py seal PORT FILE DOMAIN SELECTOR KEY: prints the message with a set that contains dkimpy's verdict on the chain.
"""

import sys

try:
    import authres
    import dkim
    import dns.resolver
except ImportError as error:
    sys.exit("%s: install the Debian packages python3-dkim and python3-authres" % error)

command, port, path = sys.argv[1:4]
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["127.0.0.1"], int(port)


def txt(name, timeout=5):
    try:
        answer = resolver.resolve(name.decode().rstrip("."), "TXT", lifetime=timeout)
    except dns.resolver.NXDOMAIN:
        return None
    return b"".join(answer[0].strings)


with open(path, "rb") as file:
    message = file.read()
status, results, reason = dkim.ARC(message).verify(dnsfunc=txt)
# dkimpy returns no status for a chain whose newest seal has cv=fail.
status = (status or b"fail").decode()
if command == "verify":
    print(status, reason)
    sys.exit(status != "pass")
domain, selector, key = (argument.encode() for argument in sys.argv[4:7])
# Each set needs a name of its own: dkimpy treats all results with its name as those of this hop.
identity = b"hop%d.%s" % (len(results) + 1, domain)
message = b"Authentication-Results: %s; arc=%s\r\n%s" % (identity, status.encode(), message)
with open(key, "rb") as file:
    fields = dkim.ARC(message).sign(selector, domain, file.read(), identity)
if not fields:
    sys.exit("dkimpy adds no set")
sys.stdout.buffer.write(b"".join(fields) + message)
