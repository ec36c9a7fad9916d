"""Out of memory in `cnctl generate`: one line on what needs less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cnctl.commands.generate.request import GenerateRequest
from cnctl.errors import DeviceError
from cnctl.models.device import is_out_of_memory


@contextmanager
def out_of_memory_hint(
    request: GenerateRequest, what: str, *, denoising: bool = False
) -> Iterator[None]:
    """Raise DeviceError, which names the flags that need less, where memory ends in the block.

    what: the thing that needs the memory. denoising: images are made, and not networks loaded.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        ways = {
            "--low-memory": not request.low_memory,
            "--batch-size 1": denoising and request.at_once > 1,
            "a smaller --size or --resolution": denoising,
            "--dtype bfloat16": request.dtype is None,
            "--quantize int8": request.quantize is None,
        }
        hint = ", or ".join(way for way, is_open in ways.items() if is_open)
        raise DeviceError(f"out of memory for {what}", hint=f"try {hint}") from error
