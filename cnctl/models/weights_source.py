"""What is known of weights before any tensor is read. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError, reading
from cnctl.tensorfiles.header import TensorSpec


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """A ControlNet on disk; each folder of families adds its form and architecture."""

    path: Path
    """The file with the tensors."""
    container: str
    """"safetensors", "torch", or "torch, under state_dict"."""
    tensors: Mapping[str, TensorSpec]
    """By name, without prefixes."""
    full_names: Mapping[str, str]
    """Name without prefix -> name in the file."""
    config: dict[str, Any]
    """As diffusers would write it, or as the folder or file carries it; {} if nothing says it."""
    description: dict[str, Any]
    """What the trainer or converter wrote down; {} for a stranger's file."""
    notes: tuple[str, ...] = ()
    """What was left out, or is odd, one sentence each."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes in use, as safetensors codes, most frequent first."""
        counts = Counter(spec.dtype for spec in self.tensors.values())
        return tuple(dtype for dtype, _ in counts.most_common())

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(prod(spec.shape) for spec in self.tensors.values())


@contextmanager
def opening(path: Path, *others: Path | None) -> Iterator[None]:
    """Errors of reading these weights begin with their path, unless they name one of the paths."""
    with reading(path, hint="check the path"):
        try:
            yield
        except CnctlError as error:
            if any(str(one) in str(error) for one in (path, *others) if one is not None):
                raise
            raise type(error)(f"{path}: {error}", hint=error.hint) from error


def note_wrappers(names: Mapping[str, str]) -> list[str]:
    """A note where names are read without what training in parallel and compiling adds to them.

    names: the shorter name -> the name in the file, as `without_wrappers` returns them.
    """
    if all(short == full for short, full in names.items()):
        return []
    return ["names are read without 'module.' and '_orig_mod.', as training leaves them"]
