"""Verifies every signature of every FILE with dkimpy, with the DNS at 127.0.0.1:PORT. Prints a line for each."""

import sys

try:
    import dkim
    import dns.resolver
except ImportError as error:
    sys.exit("%s: install the Debian package python3-dkim" % error)

resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["127.0.0.1"], int(sys.argv[1])


def txt(name, timeout=5):
    try:
        answer = resolver.resolve(name.decode().rstrip("."), "TXT", lifetime=timeout)
    except dns.resolver.NXDOMAIN:
        return None
    return b"".join(answer[0].strings)


failed = False
for path in sys.argv[2:]:
    with open(path, "rb") as file:
        message = file.read()
    signatures = sum(name.lower() == b"dkim-signature" for name, value in dkim.DKIM(message).headers)
    for index in range(signatures):
        one = dkim.DKIM(message)
        try:
            passed = one.verify(idx=index, dnsfunc=txt)
        except dkim.DKIMException as error:
            passed = False
            print(path, error)
        algorithm = (one.signature_fields or {}).get(b"a", b"?").decode()
        print("pass" if passed else "fail", algorithm, path)
        failed |= not passed
sys.exit(failed)
