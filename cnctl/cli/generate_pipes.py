"""cnctl generate - -o -: an image from standard input, and one to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cnctl.commands.generate.request import GenerateRequest
from cnctl.errors import CnctlError
from cnctl.system.standard_streams import was_closed

PIPE = "-"
NAME = "stdin.png"
"""The image's name in records, whatever its format is."""


def writes_to_pipe(request: GenerateRequest) -> bool:
    """Whether the image goes to standard output."""
    return str(request.out) == PIPE


@contextmanager
def with_pipes(request: GenerateRequest, *beside: object) -> Iterator[GenerateRequest]:
    """The request with files in place of pipes; at the end the image goes to standard output.

    beside: what is asked for besides the image, which a pipe cannot hold.
    """
    reads = PIPE in map(str, request.images)
    if not (reads or writes_to_pipe(request)):
        yield request
        return
    if writes_to_pipe(request):
        _check_alone(request, beside)
    with TemporaryDirectory() as folder:
        if reads:
            request = replace(request, images=_with_stdin(request.images, Path(folder, NAME)))
        if not writes_to_pipe(request):
            yield request
            return
        made = Path(folder, "out", "image.png")
        yield replace(request, out=made)
        sys.stdout.buffer.write(made.read_bytes())
        sys.stdout.buffer.flush()


def _check_alone(request: GenerateRequest, beside: Sequence[object]) -> None:
    many = [request.jobs, request.sweep, request.count > 1, len(request.images) > 1]
    if any(many) or any(beside) or request.save_steps:
        raise CnctlError("-o - is for one image and nothing else", hint="name a folder with -o")


def _with_stdin(images: Sequence[Path | str], file: Path) -> list[Path | str]:
    """The images with this file, which holds what comes on standard input, for "-"."""
    if was_closed("stdin"):
        raise CnctlError("standard input is closed", hint="pipe an image in, or name a file")
    content = sys.stdin.buffer.read()
    if not content:
        raise CnctlError("standard input is empty", hint="pipe an image in, or name a file")
    file.write_bytes(content)
    return [file if str(image) == PIPE else image for image in images]
