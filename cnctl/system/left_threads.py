"""Threads that run on when the program is done, for which Python would wait without end."""

from __future__ import annotations

import os
import sys
import threading
import time

GRACE = 2.0
"""Seconds for them to end by themselves."""


def exit_in_spite_of_threads(code: int) -> None:
    """End the process at once where a plugin has left threads running; else return."""
    main, deadline = threading.main_thread(), time.monotonic() + GRACE
    left = [t for t in threading.enumerate() if t is not main and not t.daemon]
    # Those of a pool wait for work, and end when Python does.
    left = [t for t in left if not t.name.startswith("ThreadPoolExecutor")]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    if names := [t.name for t in left if t.is_alive()]:
        print(f"cnctl: a plugin left threads running: {', '.join(names)}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
