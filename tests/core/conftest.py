"""What tests of the core share."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from torch import nn

Counted = Callable[[nn.Module], AbstractContextManager[list[int]]]


@pytest.fixture(scope="session")
def counted() -> Counted:
    """What lists the batch sizes of a module's calls, as a context manager."""

    @contextmanager
    def count(module: nn.Module) -> Iterator[list[int]]:
        calls: list[int] = []
        hook = module.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
        try:
            yield calls
        finally:
            hook.remove()

    return count
