"""Standard streams that were closed before the program started, as by `2>&-`."""

from __future__ import annotations

import os
import sys

STREAMS = (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w"))


def replace_closed_streams() -> None:
    """Put the null device in place of each standard stream that is closed.

    Python has None there, for which `print` writes to stdout; and the next file that is opened gets
    the free descriptor, so that messages of libraries would be written into it.
    """
    closed = [stream for stream in STREAMS if getattr(sys, stream[0]) is None]
    for _, descriptor, _ in closed:
        _occupy(descriptor)
    for name, _, mode in closed:
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def was_closed(name: str) -> bool:
    """Whether "stdin", "stdout" or "stderr" was closed when the program started."""
    return None in (getattr(sys, name), getattr(sys, f"__{name}__"))


def _occupy(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null == descriptor:
            os.set_inheritable(descriptor, True)
        else:
            os.dup2(null, descriptor)
            os.close(null)
