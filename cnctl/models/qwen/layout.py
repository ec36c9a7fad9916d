"""Both kinds of ControlNets for Qwen-Image, which their tensors' names tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnctl.models.checkpoint_layout import CheckpointLayout
from cnctl.models.identify import identify
from cnctl.models.qwen import blockwise_format
from cnctl.models.qwen.format import FORMAT
from cnctl.models.signatures import BASE
from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.layout import build_layout
from cnctl.models.weights_place import locate_weights
from cnctl.tensorfiles.listing import list_tensors

if TYPE_CHECKING:
    from cnctl.models.conversion import Conversion


def find_format(source: str | Path) -> ControlNetFormat:
    """The format of the weights at this place; CnctlError where there are none."""
    path, _ = locate_weights(Path(source))
    is_blockwise = blockwise_format.is_blockwise(list_tensors(path).tensors)
    return blockwise_format.FORMAT if is_blockwise else FORMAT


def _layout_of(source: str | Path) -> CheckpointLayout:
    return build_layout(find_format(source))


def _load_conversion(path: Path) -> Conversion:
    """path: of a ControlNet, or of the base that one is to start from."""
    row = identify(path, BASE)
    of_base = row is not None and row.role == BASE
    return (build_layout(FORMAT) if of_base else _layout_of(path)).load_conversion(path)


LAYOUT = CheckpointLayout(
    holds=lambda path: False,
    describe=lambda path, **options: _layout_of(path).describe(path, **options),
    read_description=lambda path, **options: _layout_of(path).read_description(path, **options),
    load=lambda path, **options: _layout_of(path).load(path, **options),
    load_conversion=_load_conversion,
)
