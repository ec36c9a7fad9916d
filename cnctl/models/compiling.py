"""Compile the repeated blocks of a network (torch.compile), one graph for all that are alike.

What a ControlNet adds meets the base between blocks, so the graphs are the same with control and
without, and an interval that ends compiles nothing again.
"""

from __future__ import annotations

import os
import shutil

from torch import nn

from cnctl.errors import MissingError
from cnctl.models.family import Family

COMPILERS = ("c++", "g++", "clang++", "cl")


def compile_blocks(network: nn.Module, family: Family, *, backend: str = "inductor") -> None:
    """Compile in place when they first run, which takes a minute or more; backend: torch's name.

    Raises MissingError where no C++ compiler is installed, which torch needs for that.
    """
    names = [name for name in (os.environ.get("CXX"), *COMPILERS) if name]
    if not any(map(shutil.which, names)):
        raise MissingError("--compile needs a C++ compiler", hint="install g++ or clang++")
    for module in network.modules():
        if type(module).__name__ in family.repeated_blocks:
            module.compile(backend=backend)
