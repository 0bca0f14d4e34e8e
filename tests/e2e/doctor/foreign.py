"""A mail server other than chopar with one fault, in chopar's place: foreign.py PORT CERTIFICATE KEY FAULT.

Its process is named chopar, so that the doctor finds no fault with the holder of the port.
"""

import socket
import socketserver
import ssl
import sys
import threading

port, certificate, key, fault = int(sys.argv[1]), *sys.argv[2:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
if fault == "tls-1.3-only":
    context.minimum_version = ssl.TLSVersion.TLSv1_3


class Session(socketserver.BaseRequestHandler):
    def handle(self):
        self.talk(self.request, False)

    def talk(self, stream, is_secure):
        def say(*lines):
            for number, line in enumerate(lines):
                mark = "-" if number + 1 < len(lines) else " "
                stream.sendall(("%s%s%s\r\n" % (line[:3], mark, line[4:])).encode())

        if not is_secure:
            say("220 mail.example.test")
        for line in stream.makefile("rb"):
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                offers = ["250 mail.example.test"]
                if not is_secure and fault != "no-starttls":
                    offers.append("250 STARTTLS")
                if (is_secure and fault != "no-auth") or fault == "auth-in-clear":
                    offers.append("250 AUTH PLAIN")
                say(*offers, "250 8BITMIME")
            elif verb == b"STARTTLS" and fault == "no-handshake":
                say("220 go on")
                stream.sendall(b"This is not TLS.\r\n")
                return
            elif verb == b"STARTTLS":
                say("220 go on")
                try:
                    with context.wrap_socket(stream, server_side=True) as secured:
                        self.talk(secured, True)
                except OSError:
                    pass  # the client has tried a version that is not spoken
                return
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                say("502 not here")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Server6(Server):
    address_family = socket.AF_INET6

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()


threading.Thread(target=Server6(("::", port), Session).serve_forever, daemon=True).start()
Server(("0.0.0.0", port), Session).serve_forever()
