"""An ACME server with RFC 9773: a proxy for a server without it, which adds renewalInfo to the directory and answers it.

Arguments: the port to listen on, the port of the server, a folder. In the folder: cert.pem and key.pem; answer.json with
status, headers and body of the next windows ("refuse": true refuses one order with "replaces"); and log, with each request
for a window and each "replaces".
"""

import base64
import http.client
import http.server
import json
import os
import ssl
import sys

port, behind, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def note(text):
    with open(os.path.join(folder, "log"), "a") as log:
        log.write(text + "\n")


def answer():
    with open(os.path.join(folder, "answer.json")) as file:
        return json.load(file)


def decoded(text):
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    def window(self):
        note("window " + self.path.rsplit("/", 1)[1])
        said = answer()
        body = said.get("body", "")
        body = body if isinstance(body, str) else json.dumps(body)
        self.reply(said.get("status", 200), list(said.get("headers", {}).items()), body.encode())

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body and self.command == "POST":
            payload = json.loads(body)["payload"]
            replaces = decoded(payload).get("replaces") if payload else None
            if replaces:
                note("replaces " + replaces)
                if answer().get("refuse"):
                    problem = {"type": "urn:ietf:params:acme:error:alreadyReplaced", "detail": "it is"}
                    # The nonce is unused, and the CA behind the proxy returns another one with each response.
                    nonce = self.ask("HEAD", "/nonce-plz", b"").getheader("Replay-Nonce")
                    headers = [("Replay-Nonce", nonce), ("Content-Type", "application/problem+json")]
                    return self.reply(409, headers, json.dumps(problem).encode())
        response = self.ask(self.command, self.path, body)
        body = response.read()
        if self.path == "/dir":
            directory = json.loads(body)
            directory["renewalInfo"] = f"https://localhost:{port}/window"
            body = json.dumps(directory).encode()
        self.reply(response.status, response.getheaders(), body)

    def ask(self, method, path, body):
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("localhost", behind, context=context, timeout=30)
        headers = {"Host": self.headers["Host"]}
        if body:
            headers["Content-Type"] = self.headers["Content-Type"]
        connection.request(method, path, body or None, headers)
        return connection.getresponse()

    def do_GET(self):
        if self.path.startswith("/window/"):
            self.window()
        else:
            self.pass_on()

    do_POST = do_HEAD = pass_on


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
