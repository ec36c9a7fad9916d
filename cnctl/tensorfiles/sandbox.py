"""Run torch's own reader on a stranger's file in a child process with limits."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Timer

from cnctl.errors import CnctlError, OutputError
from cnctl.tensorfiles.pickles import INERT
from cnctl.tensorfiles.torchfile import WRAPPERS, ZIP_MAGIC

CHILD = Path(__file__).with_name("torch_child.py")
SPARE_BYTES = 2 << 30
LEAST_SECONDS: float = 60
BYTES_PER_SECOND = 10_000_000
"""Slower than any disk in use; decides how long the child may run."""


def extract_tensors(source: Path, target: Path, *, names: Iterable[str]) -> None:
    """Write the named tensors of a torch file to `target` as safetensors.

    Call only on files that `list_torch_file` has passed. CnctlError says why it failed.
    """
    source = source.resolve()
    size = source.stat().st_size
    seconds = LEAST_SECONDS + size / BYTES_PER_SECOND
    with source.open("rb") as file:
        mapped = file.read(4) == ZIP_MAGIC
    request = {
        "source": str(source),
        "target": str(target),
        "mapped": mapped,
        "names": list(names),
        "inert": sorted(INERT),
        "wrappers": list(WRAPPERS),
        "bytes": 3 * size + SPARE_BYTES,
        "seconds": math.ceil(seconds),
    }
    try:
        with shared_reader() as reader:
            code, why = reader.ask(json.dumps(request), seconds=4 * seconds)
    except TimeoutError as error:
        raise CnctlError(
            f"{source} was refused: torch needed more than {4 * seconds:.0f} s to read it",
            hint="ask for a safetensors file",
        ) from error
    _check(source, code, why)


class _Reader:
    """The child program, started when it is first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: str, *, seconds: float) -> tuple[int, str]:
        """The code that the reader of this file ended with, and its last words.

        TimeoutError when there is no answer in so many seconds.
        """
        process = self._process = self._process or _start()
        deadline = time.monotonic() + seconds
        timer = Timer(seconds, _kill, [process])
        timer.start()
        answer = ""
        try:
            answer, words = _exchange(process, request)
        finally:
            timer.cancel()
            if not answer:
                self.close()
        if answer:
            found = json.loads(answer)
            return found["code"], found["why"]
        if time.monotonic() >= deadline:
            raise TimeoutError
        return process.returncode, words

    def close(self) -> None:
        """End it and whatever it has started."""
        if process := self._process:
            self._process = None
            with suppress(BrokenPipeError), process:  # a request that it did not take is dropped
                _kill(process)


def _exchange(process: subprocess.Popen[str], request: str) -> tuple[str, str]:
    """The line that it answers; or none and its last words, for it has ended.

    It ends on an error of its own, and after each file where it does not fork.
    """
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with suppress(BrokenPipeError):
        print(request, file=process.stdin, flush=True)
    answer = process.stdout.readline()
    return answer, "" if answer else process.stderr.read()


_shared: ContextVar[_Reader | None] = ContextVar("_shared", default=None)


@contextmanager
def shared_reader() -> Iterator[_Reader]:
    """Let all torch files that are read inside share one child program, which imports torch once.

    Each file is still read in a process of its own that has seen no other.
    """
    if shared := _shared.get():
        yield shared
        return
    with closing(_Reader()) as reader:
        token = _shared.set(reader)
        try:
            yield reader
        finally:
            _shared.reset(token)


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-B", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        cwd=CHILD.anchor,
        env=_environment(),
        start_new_session=True,  # so that it ends together with its forks
    )


def _kill(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Where Python finds torch, and nothing of the user's: no tokens, no TORCH_ switches."""
    kept = {
        name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ
    }
    path = os.pathsep.join(entry for entry in sys.path if os.path.isabs(entry))
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


def _check(source: Path, code: int, words: str) -> None:
    if code == 0:
        return
    lines = words.strip().splitlines()
    why = lines[-1] if lines else f"the reader ended with code {code}"
    if "No space left" in why:
        raise OutputError(
            f"no space for a copy of {source} in {tempfile.gettempdir()}",
            hint="free some, or point TMPDIR to another folder",
        )
    if code < 0:
        why = f"it crashed torch's reader or broke its limits (signal {-code})"
    raise CnctlError(f"{source} was refused: {why}", hint="ask for a safetensors file")
