"""What plugins export, found out without importing other people's code into this process.

Such a plugin may hang, end the process, or leave a thread behind when it is imported. Each of their
modules is therefore imported in a child process, all at once, for a limited time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any

from cnctl.errors import CnctlError, MissingError
from cnctl.plugin import Condition
from cnctl.registry.entries import OWN_DISTRIBUTION, installed_entries, note_unreadable_metadata
from cnctl.registry.facts import from_facts, to_facts
from cnctl.registry.load import load_entry
from cnctl.registry.metadata import Entry

if TYPE_CHECKING:
    import subprocess

SECONDS = 15.0
"""How long the import of a plugin may take."""

Look = Condition | CnctlError

CHILD = """
import json, sys
sys.path[:], values = json.load(sys.stdin)
from cnctl.registry.look import answer
answer(values)
"""


def list_conditions(*, seconds: float = SECONDS) -> list[Entry]:
    """Return every entry, with its condition where that can be loaded, else with its problem.

    The callables of other packages' conditions are stand-ins: only `get_condition` gives the real.
    """
    note_unreadable_metadata()
    entries = installed_entries()
    looks = _look([entry for entry in entries if not entry.problem], seconds)
    return [entry if entry.problem else _filled(entry, looks[entry]) for entry in entries]


def look_at(entry: Entry, *, seconds: float = SECONDS) -> Entry:
    """Return one entry with its condition, as `list_conditions` does; CnctlError where it fails."""
    look = _look([entry], seconds)[entry]
    if isinstance(look, CnctlError):
        raise look
    return _filled(entry, look)


def answer(entries: Sequence[dict[str, Any]]) -> None:
    """Import these entries of one module in the child, and write what they are to stdout."""
    looks = [_load(Entry(**entry)) for entry in entries]
    json.dump([_packed(look) for look in looks], sys.stdout, default=str)
    sys.stdout.flush()
    os._exit(0)  # whatever the plugin would do at the end


def _filled(entry: Entry, look: Look) -> Entry:
    if isinstance(look, Condition):
        return replace(entry, condition=look)
    return replace(entry, problem=str(look))


def _look(entries: Sequence[Entry], seconds: float) -> dict[Entry, Look]:
    own = [entry for entry in entries if entry.distribution == OWN_DISTRIBUTION]
    others = tuple(entry for entry in entries if entry.distribution != OWN_DISTRIBUTION)
    return {entry: _load(entry) for entry in own} | _look_in_children(others, seconds)


def _load(entry: Entry) -> Look:
    try:
        return load_entry(entry)
    except CnctlError as error:
        return error


@cache
def _look_in_children(entries: tuple[Entry, ...], seconds: float) -> dict[Entry, Look]:
    from subprocess import TimeoutExpired  # here: `cnctl --help` starts no process

    def module(entry: Entry) -> str:
        return entry.module

    groups = [[*group] for _, group in groupby(sorted(entries, key=module), key=module)]
    found: dict[Entry, Look] = {}
    with ExitStack() as stack:
        children = [stack.enter_context(_child(group)) for group in groups]
        deadline = time.monotonic() + seconds
        for group, (process, output) in zip(groups, children, strict=True):
            with suppress(TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            found |= _read_answer(group, process.poll(), output, seconds)
    return found


@contextmanager
def _child(entries: Sequence[Entry]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process that imports these entries, and the file of its answer; it ends with the block."""
    import subprocess
    import tempfile

    names = ("name", "value", "distribution", "version")
    asked = [{name: getattr(entry, name) for name in names} for entry in entries]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # what it starts in its turn ends with it
        )
        try:
            assert process.stdin
            with suppress(BrokenPipeError), process.stdin as question:
                json.dump([sys.path, asked], question)
            yield process, output
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _read_answer(
    entries: Sequence[Entry], code: int | None, output: IO[str], seconds: float
) -> dict[Entry, Look]:
    """What the child has written; where that cannot be read, why each entry cannot be used."""
    output.seek(0)
    try:
        answers = [_unpacked(packed) for packed in json.load(output)]
        return dict(zip(entries, answers, strict=True))
    except (ValueError, TypeError, KeyError):
        return {entry: _died(entry, code, seconds) for entry in entries}


def _died(entry: Entry, code: int | None, seconds: float) -> CnctlError:
    if code is None:
        what = f"took longer than {seconds:g} seconds"
    else:
        what = f"ended the process ({_describe_exit(code)})"
    return CnctlError(
        f"{entry.claim} failed to import: {entry.module} {what}",
        hint=f"fix, upgrade or uninstall {entry.distribution}; other conditions still work",
    )


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _packed(look: Look) -> dict[str, Any]:
    if isinstance(look, Condition):
        return {"facts": to_facts(look)}
    return {"error": str(look), "hint": look.hint, "missing": isinstance(look, MissingError)}


def _unpacked(packed: dict[str, Any]) -> Look:
    if "facts" in packed:
        return from_facts(packed["facts"])
    kind = MissingError if packed["missing"] else CnctlError
    return kind(packed["error"], hint=packed["hint"])
