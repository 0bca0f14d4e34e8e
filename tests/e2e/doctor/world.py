"""The Internet as far as `chopar doctor` looks at it: a mail server of each family (aiosmtpd) whose address echo@ answers, a
time server whose clock is as far ahead as the file `offset` in the folder says, and a name server that never answers.
"""

import email
import smtplib
import socket
import struct
import sys
import threading
import time

from aiosmtpd.controller import Controller

folder = sys.argv[1]


def answer(envelope):
    message = email.message_from_bytes(envelope.original_content)
    text = "From: echo@far.test\r\nTo: %s\r\nSubject: Re: %s\r\nDate: %s\r\nMessage-ID: <%s@far.test>\r\n\r\nIt is here.\r\n" % (
        envelope.mail_from,
        message["Subject"],
        message["Date"],
        time.time(),
    )
    client = smtplib.SMTP("203.0.113.7", 25, "mx.far.test", source_address=("203.0.113.25", 0))
    client.sendmail("echo@far.test", envelope.mail_from, text)
    client.quit()


class Handler:
    async def handle_DATA(self, server, session, envelope):
        with open(folder + "/mail", "a") as file:
            file.write("%s %s\n" % (envelope.mail_from, envelope.rcpt_tos))
        if envelope.rcpt_tos == ["echo@far.test"]:
            threading.Thread(target=answer, args=(envelope,)).start()
        return "250 2.0.0 Taken"


for address in sys.argv[2:]:
    Controller(Handler(), hostname=address, port=25, server_hostname="mx.far.test").start()

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
