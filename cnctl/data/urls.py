"""URLs of data: distinguish them from paths, and show them without credentials."""

from __future__ import annotations

import re

HIDDEN = "***"
SECRETS = (
    (re.compile(r"(https?://)[^/\s]+@"), rf"\1{HIDDEN}@"),  # a token may stand alone
    (re.compile(r"(://[^/\s@:]+):[^/\s]*@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"(https?://[^\s'\"?]*)\?[^\s'\"]+"), rf"\1?{HIDDEN}"),
)
"""User names and passwords, and whole queries, since they hold signatures."""


def is_url(spec: str) -> bool:
    """Return whether it names a protocol, for example "https://..."."""
    return "://" in spec


def without_credentials(text: str) -> str:
    """Return the text with HIDDEN in place of the credentials in URLs."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
