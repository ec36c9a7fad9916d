"""Trained weights for Qwen-Image, of both kinds of ControlNets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnctl.models.base import Base
from cnctl.models.location import Location
from cnctl.models.network import Network
from cnctl.models.qwen.files import FILES
from cnctl.models.qwen.layout import find_format
from cnctl.models.transformer import weights as of_controlnets


def check_weights(source: Path, location: Location, **asked: Any) -> tuple[str, ...]:
    """As for ControlNets of transformers."""
    return of_controlnets.check_weights(find_format(source), FILES, source, location, **asked)


def count_residuals(source: Path) -> int:
    """As for ControlNets of transformers."""
    return of_controlnets.count_residuals(find_format(source), source)


def open_network(source: Path, base: Base, **asked: Any) -> Network:
    """The ControlNet in these weights; checked before it loads."""
    return of_controlnets.open_network(find_format(source), source, base, **asked)
