"""The Internet as far as `chopar doctor` looks at it: a mail server of each family (aiosmtpd), a time server whose clock is as
far ahead as the file `offset` in the folder says, and a name server that never answers.
"""

import socket
import struct
import sys
import threading
import time

from aiosmtpd.controller import Controller

folder = sys.argv[1]


class Refuses:
    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        return "550 5.7.1 No mail is sent by a look at the way out"


for address in sys.argv[2:]:
    Controller(Refuses(), hostname=address, port=25, server_hostname="mx.far.test").start()

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
