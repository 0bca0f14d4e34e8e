"""Parses a delivery status notification with Python's email package and prints its content as JSON."""

import email
import email.policy
import json
import sys

message = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
if message.defects:
    sys.exit("defects: %r" % message.defects)
parts = list(message.iter_parts())
for part in parts:
    if part.defects:
        sys.exit("defects: %r" % part.defects)
status = [{name.lower(): str(value) for name, value in block.items()} for block in parts[1].get_payload()]
original = parts[2].get_payload()
if isinstance(original, list):
    original = original[0].as_string()
print(
    json.dumps(
        {
            "type": message.get_content_type(),
            "report-type": message.get_param("report-type"),
            "from": str(message["From"]),
            "to": str(message["To"]),
            "subject": str(message["Subject"]),
            "auto-submitted": str(message["Auto-Submitted"]),
            "parts": [part.get_content_type() for part in parts],
            "text": parts[0].get_content(),
            "status": status,
            "original": original,
        }
    )
)
