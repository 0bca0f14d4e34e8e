"""Displays From and Authentication-Results like Python's own email package and authres.

Standard input has batches: the number of values (4 bytes, big endian), then for each a kind (1 byte), its length (4
bytes) and its bytes. For each value of a batch standard output gets a length (4 bytes) and that many bytes: what was
shown, one a line. Kinds: f, From by the old parser; F, by both parsers; a, the ids of Authentication-Results; m, From of a
whole message.
"""

import re
import struct
import sys
import unicodedata
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.utils import getaddresses, parseaddr

import authres


def unfolded(text):
    return re.sub("\r\n(?=[ \t])", "", text)


def texts(value):
    """The possible readings of bytes as text. Valid UTF-8 has only that one (RFC 6532)."""
    try:
        return [unfolded(value.decode())]
    except UnicodeDecodeError:
        ways = [value.decode("utf-8", "replace"), value.decode("latin-1")]
        ways.append(value.decode("ascii", "surrogateescape"))
        return [unfolded(text) for text in ways]


def old(value):
    shown = []
    for text in texts(value):
        shown.extend(address for _, address in getaddresses([text]))
        shown.append(parseaddr(text)[1])
    return shown


def new(value):
    message = message_from_bytes(b"From: " + value + b"\r\n\r\n", policy=policy.default)
    try:
        return [address.addr_spec for address in message["From"].addresses]
    except Exception:  # It has faults of its own: then it shows nothing.
        return []


def message(value):
    shown = []
    for rules in (policy.compat32, policy.default):
        try:
            for field in message_from_bytes(value, policy=rules).get_all("From", []):
                shown.append(str(field))
        except Exception:
            pass
    return shown


def headers(value):
    """The value of a field as text: by both policies, and with encoded words decoded."""
    field = b"Authentication-Results: " + value + b"\r\n\r\n"
    shown = texts(value)
    for rules in (policy.compat32, policy.default):
        try:
            shown.append(str(message_from_bytes(field, policy=rules)["Authentication-Results"]))
        except Exception:
            pass
    for text in list(shown):
        try:
            shown.append(str(make_header(decode_header(text))))
        except Exception:
            pass
    return shown


def ids(value):
    shown = []
    for text in headers(value):
        head = text.split(";")[0]
        for form in (head, unicodedata.normalize("NFKC", head)):
            bare = re.sub(r"\([^()]*\)", " ", form)
            for words in (form.split(), bare.split()):
                shown.extend(word.strip("\"'<>.,()") for word in words[:1])
            shown.append("".join(bare.split()).strip("\"'<>.,()"))
        try:
            shown.append(authres.AuthenticationResultsHeader.parse_value(text).authserv_id or "")
        except Exception:  # Not the only one in that package that it does not foresee.
            pass
    return shown


READERS = {b"f": old, b"F": lambda value: old(value) + new(value), b"a": ids, b"m": message}


def main():
    source, out = sys.stdin.buffer, sys.stdout.buffer
    while count := source.read(4):
        values = []
        for _ in range(struct.unpack(">I", count)[0]):
            kind = source.read(1)
            values.append((kind, source.read(struct.unpack(">I", source.read(4))[0])))
        for kind, value in values:
            lines = {line.replace("\n", " ") for line in READERS[kind](value)}
            answer = "\n".join(lines).encode("utf-8", "surrogateescape")
            answer = answer.decode("utf-8", "replace").encode()
            out.write(struct.pack(">I", len(answer)) + answer)
        out.flush()


main()
