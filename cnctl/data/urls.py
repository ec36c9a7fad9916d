"""Addresses of data: told from paths, and shown without what is secret in them."""

from __future__ import annotations

import re

HIDDEN = "***"
SECRETS = (
    (re.compile(r"(https?://)[^/\s]+@"), rf"\1{HIDDEN}@"),  # a token may stand alone
    (re.compile(r"(://[^/\s@:]+):[^/\s]*@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"(https?://[^\s'\"?]*)\?[^\s'\"]+"), rf"\1?{HIDDEN}"),
)
"""Users and passwords of servers, and whole queries, in which signatures stand."""


def is_url(spec: str) -> bool:
    """Whether it names a protocol, "https://..." for instance."""
    return "://" in spec


def without_credentials(text: str) -> str:
    """The text, in which HIDDEN stands for the credentials in any URL."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
