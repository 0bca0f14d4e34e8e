"""Signs a message like its author, or verifies one like the next receiver.

forward.py sign FILE DOMAIN SELECTOR KEY: prints the message with a signature by dkimpy.
forward.py judge PORT FILE SENDER HELO: prints the results of authheaders (SPF by pyspf, DKIM and ARC by dkimpy) for a
message from 127.0.0.1, with the DNS at 127.0.0.1:PORT.
"""

import sys

try:
    import authheaders
    import dkim
    import dns.resolver
    import spf  # noqa: F401: authheaders does without, and finds nothing
except ImportError as error:
    sys.exit("%s: install the Debian packages python3-authheaders and python3-spf" % error)

command = sys.argv[1]
if command == "sign":
    path, domain, selector, key = sys.argv[2:6]
    with open(path, "rb") as file:
        message = file.read()
    with open(key, "rb") as file:
        field = dkim.sign(message, selector.encode(), domain.encode(), file.read())
    sys.stdout.buffer.write(field + message)
else:
    port, path, sender, helo = sys.argv[2:6]
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], int(port)
    dns.resolver.default_resolver = resolver
    with open(path, "rb") as file:
        message = file.read()
    print(
        authheaders.authenticate_message(
            message,
            "mx.home.test",
            spf=True,
            dkim=True,
            arc=True,
            dmarc=True,
            ip="127.0.0.1",
            mail_from=sender,
            helo=helo,
        )
    )
