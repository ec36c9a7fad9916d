"""How the files of a family's ControlNets are laid out: what `cnctl info` and `convert` ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.models.weights_info import WeightsInfo

if TYPE_CHECKING:
    from cnctl.models.conversion import Conversion


@dataclass(frozen=True, kw_only=True)
class CheckpointLayout:
    """The files of one folder of families, as a value."""

    holds: Callable[[Path], bool]
    """holds(path): whether weights lie there that only what cnctl wrote identifies."""
    describe: Callable[..., WeightsInfo]
    """describe(path, hash=, config=): what they are; CnctlError where they are something else."""
    read_description: Callable[..., dict[str, Any]]
    """read_description(path, base=): what is known of a network, from headers."""
    load: Callable[..., tuple[Any, dict[str, Any]]]
    """load(path, device=, dtype=, base=): the network and its description; it imports torch."""
    load_conversion: Callable[[Path], Conversion]
    """load_conversion(path): what converts weights of the kind at this path; it imports torch."""
