"""The random base of Qwen-Image, loaded."""

from pathlib import Path

import pytest

from cnctl.models.base import Base
from cnctl.models.families import load_base


@pytest.fixture(scope="session")
def qwen_base(random_qwen_base: Path) -> Base:
    """Loaded in float32 on the CPU. Do not change it."""
    return load_base(random_qwen_base)
