"""Submits a message with smtplib: DOOR PORT MECHANISM LOGIN PASSWORD FROM TO, the message on standard input.

SCRAM-SHA-256 is implemented here, from RFC 5802 and RFC 7677, since smtplib lacks it; the server's signature is checked.
"""

import base64
import hashlib
import hmac
import os
import smtplib
import ssl
import sys

door, port, mechanism, login, password, sender, recipient = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def scram(session):
    def digest(key, message):
        return hmac.new(key, message, hashlib.sha256).digest()

    nonce = base64.b64encode(os.urandom(18)).decode()
    bare = "n=%s,r=%s" % (login, nonce)
    code, challenge = session.docmd("AUTH", "SCRAM-SHA-256 " + base64.b64encode(("n,," + bare).encode()).decode())
    assert code == 334, (code, challenge)
    first = base64.b64decode(challenge).decode()
    fields = dict(field.split("=", 1) for field in first.split(","))
    assert fields["r"].startswith(nonce) and len(fields["r"]) > len(nonce), first
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    client_key = digest(salted, b"Client Key")
    final = "c=biws,r=" + fields["r"]
    message = ",".join((bare, first, final)).encode()
    signature = digest(hashlib.sha256(client_key).digest(), message)
    proof = bytes(a ^ b for a, b in zip(client_key, signature))
    final += ",p=" + base64.b64encode(proof).decode()
    code, verifier = session.docmd(base64.b64encode(final.encode()).decode())
    assert code == 334, (code, verifier)
    expected = digest(digest(salted, b"Server Key"), message)
    assert base64.b64decode(verifier) == b"v=" + base64.b64encode(expected), verifier
    code, text = session.docmd("")
    assert code == 235, (code, text)


if door == "465":
    session = smtplib.SMTP_SSL("127.0.0.1", int(port), "client.test", context=context, timeout=20)
else:
    session = smtplib.SMTP("127.0.0.1", int(port), "client.test", timeout=20)
    session.ehlo()
    assert not session.has_extn("auth"), "AUTH is offered before TLS"
    session.starttls(context=context)
session.ehlo()
assert mechanism in session.esmtp_features["auth"].split(), session.esmtp_features
if mechanism == "SCRAM-SHA-256":
    scram(session)
else:
    session.user, session.password = login, password
    method = {"PLAIN": session.auth_plain, "LOGIN": session.auth_login}[mechanism]
    code, text = session.auth(mechanism, method)
    assert code == 235, (code, text)
session.sendmail(sender, [recipient], sys.stdin.buffer.read())
session.quit()
