"""Relative paths mean what they meant at the start: no thread moves the process elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept_working_folder() -> Iterator[None]:
    """Refuse os.chdir to all threads but the main one, where `isolated` undoes it.

    A plugin's own thread could call it at any time, and the next output would be written elsewhere.
    """
    originals = {name: getattr(os, name) for name in ("chdir", "fchdir") if hasattr(os, name)}
    try:
        for name, original in originals.items():
            setattr(os, name, _in_main_thread(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def _in_main_thread(original: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any, **named: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise PermissionError("the working folder belongs to the whole process: keep it")
        original(*arguments, **named)

    return call
