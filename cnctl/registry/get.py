"""Load a condition that is to be used, once its plugin is known to import."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cnctl.plugin import Condition
from cnctl.registry.entries import find_entry
from cnctl.registry.load import load_entry
from cnctl.registry.look import look_at
from cnctl.registry.metadata import Entry

SECONDS = 60.0
"""How long the import of a plugin may take: a slow one that is asked for is waited for."""
NOTICE_AFTER = 5.0


def get_condition(name: str) -> Condition:
    """Return the condition of this name; CnctlError with the reason where it cannot be used.

    Another package's plugin is imported in a child process first: there it may hang, or end the
    process, and is still an error here.
    """
    entry = find_entry(name)
    if entry.module not in sys.modules:
        with _notice_of_waiting(entry):
            look_at(entry, seconds=SECONDS)
    return load_entry(entry)


@contextmanager
def _notice_of_waiting(entry: Entry) -> Iterator[None]:
    text = f"still importing {entry.module}, of {entry.claim}; Ctrl-C stops"
    timer = threading.Timer(NOTICE_AFTER, logging.getLogger("cnctl").warning, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
