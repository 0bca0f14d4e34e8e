"""Servers of the small Internet besides Postfix: an aiosmtpd that gets the mail accepted by Postfix, verifies it with
authheaders (a line of JSON in the file `mail` for each message), and answers mail to echo@far.test; a time server whose
clock is ahead by the value in the file `offset`; and a name server that never answers.
"""

import email
import json
import re
import smtplib
import socket
import struct
import sys
import threading
import time

try:
    import authheaders
    import spf  # noqa: F401: authheaders does without, and finds nothing
    from aiosmtpd.controller import Controller
except ImportError as error:
    sys.exit("%s: install the Debian packages python3-aiosmtpd, python3-authheaders and python3-spf" % error)

folder = sys.argv[1]
# Postfix's Received field: the name in EHLO, and the address.
FROM = re.compile(r"from (\S+) \(.*?\[(?:IPv6:)?([0-9a-fA-F.:]+)\]\)")


def answer(sender, content):
    message = email.message_from_bytes(content)
    text = "From: echo@far.test\r\nTo: %s\r\nSubject: Re: %s\r\nDate: %s\r\nMessage-ID: <%s@far.test>\r\n\r\nIt is here.\r\n" % (
        sender,
        message["Subject"],
        message["Date"],
        time.time(),
    )
    client = smtplib.SMTP("203.0.113.7", 25, "mx.far.test", source_address=("203.0.113.25", 0))
    client.sendmail("echo@far.test", sender, text)
    client.quit()


def judge(envelope):
    message = email.message_from_bytes(envelope.original_content)
    helo, address = FROM.search(" ".join(message.get_all("Received")[0].split())).groups()
    # Some versions of aiosmtpd keep the brackets of the null reverse-path.
    sender = envelope.mail_from.strip("<>")
    verdict = authheaders.authenticate_message(
        envelope.original_content,
        "mx.far.test",
        spf=True,
        dkim=True,
        dmarc=True,
        ip=address,
        mail_from=sender,
        helo=helo,
    )
    return {
        "from": sender,
        "to": envelope.rcpt_tos,
        "address": address,
        "helo": helo,
        "verdict": " ".join(verdict.split()),
    }


class Handler:
    async def handle_DATA(self, server, session, envelope):
        judged = judge(envelope)
        with open(folder + "/mail", "a") as file:
            file.write(json.dumps(judged) + "\n")
        if envelope.rcpt_tos == ["echo@far.test"]:
            threading.Thread(target=answer, args=(envelope.mail_from, envelope.original_content)).start()
        return "250 2.0.0 Taken"


Controller(Handler(), hostname="127.0.0.1", port=2525, server_hostname="behind.far.test").start()

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("203.0.113.99", 53))

clock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
clock.bind(("203.0.113.1", 123))


def tell():
    while True:
        question, peer = clock.recvfrom(512)
        with open(folder + "/offset") as file:
            now = time.time() + 2208988800 + float(file.read())
        stamp = struct.pack(">II", int(now), int(now % 1 * 2**32))
        clock.sendto(bytes([0x24, 2]) + bytes(38) + stamp, peer)


threading.Thread(target=tell, daemon=True).start()
open(folder + "/ready", "w").close()
threading.Event().wait()
