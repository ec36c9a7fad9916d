"""A whole file of tensors in memory, through the same functions as every command."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cnctl.tensorfiles.lazy import open_tensors
from cnctl.tensorfiles.listing import list_tensors

Tensors = dict[str, torch.Tensor]


def read(path: Path) -> Tensors:
    listing = list_tensors(path)
    tensors = open_tensors(path, listing.container, listing.tensors, listing.tensors)
    return {name: lazy.read() for name, lazy in tensors.items()}


@pytest.fixture
def read_file() -> Callable[[Path], Tensors]:
    """Returns the function that lists and reads all tensors of a file."""
    return read
