"""Accepts mail and stores it: NUMBER.eml has the bytes, then NUMBER.json the envelope.

The local part of a recipient decides: gone* is refused permanently, later* is deferred until the file `open` exists, and
full* refuses the message after its final dot.
"""

import argparse
import asyncio
import json
import os
import ssl

from aiosmtpd.smtp import SMTP, AuthResult

arguments = argparse.ArgumentParser()
arguments.add_argument("folder")
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--certificate")
arguments.add_argument("--login")
options = arguments.parse_args()


class Handler:
    def __init__(self):
        self.count = 0
        self.attempts = 0

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        name = address.split("@")[0].strip('"')
        self.attempts += 1
        if name.startswith("gone"):
            return "550 5.1.1 Nobody of that name lives here"
        if name.startswith("later") and not os.path.exists(os.path.join(options.folder, "open")):
            return "451 4.2.1 Not yet"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        if any(address.startswith("full") for address in envelope.rcpt_tos):
            return "552 5.2.2 The mailbox is full"
        self.count += 1
        path = os.path.join(options.folder, "%06d" % self.count)
        with open(path + ".eml", "wb") as file:
            file.write(envelope.original_content)
        about = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "mail_options": envelope.mail_options,
            "helo": session.host_name,
            "peer": session.peer[0],
            "tls": session.ssl is not None,
            "login": getattr(session, "login_name", None),
        }
        with open(path + ".tmp", "w") as file:
            json.dump(about, file)
        os.rename(path + ".tmp", path + ".json")
        return "250 2.0.0 Taken as %d" % self.count


def authenticate(server, session, envelope, mechanism, data):
    login, password = (data.login.decode(), data.password.decode()) if data else ("", "")
    if "%s:%s" % (login, password) != options.login:
        return AuthResult(success=False, handled=False)
    session.login_name = login
    return AuthResult(success=True)


# Longer lines than RFC 5321 section 4.5.3.1.6 requires of a server, since chopar passes them on.
SMTP.line_length_limit = 64 * 1024


async def main():
    handler = Handler()
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    loop = asyncio.get_running_loop()

    def session():
        return SMTP(
            handler,
            loop=loop,
            hostname="mx.sink.test",
            data_size_limit=64 * 1024 * 1024,
            enable_SMTPUTF8=True,
            tls_context=context,
            require_starttls=bool(options.login),
            authenticator=authenticate,
            auth_required=bool(options.login),
            auth_require_tls=True,
        )

    for host in ("127.0.0.1", "::1"):
        await loop.create_server(session, host, options.port, backlog=1024)
    with open(os.path.join(options.folder, "ready"), "w"):
        pass
    await asyncio.Event().wait()


asyncio.run(main())
