"""What the weights of a run of `cnctl generate` need on the device, and what needs less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.shared.bases import choose_base
from cnctl.commands.shared.weights import NamedControl, locate_control, open_base
from cnctl.models.base import Base
from cnctl.models.device import pick_device
from cnctl.models.families import weight_files
from cnctl.models.memory import HEADROOM, count_weights, free_memory, ways_to_need_less
from cnctl.models.network import Network
from cnctl.models.offload import has_moving_layers, move_layers

ASKED = "as asked"


def plan_memory(request: GenerateRequest, outline: Base, places: Sequence[Path]) -> dict[str, int]:
    """Bytes of weights on the device at once, by flags: as asked, then what needs less.

    outline: the base without its weights. places: of its ControlNets' weights.
    """
    counted = count_weights(outline, places, form=request.quantize or "")
    asked = counted.at_once(outline.device, low_memory=request.low_memory)
    ways = ways_to_need_less(outline, places)
    return {ASKED: asked} | {flags: need for flags, need in ways.items() if need < asked}


def describe_memory(memory: Mapping[str, int]) -> str:
    """The plan in one line."""
    asked, *less = (
        in_words(need) + ("" if flags == ASKED else f" with {flags}")
        for flags, need in memory.items()
    )
    return f"{asked} of weights at once" + (f"; {', '.join(less)}" if less else "")


def note_if_too_large(
    request: GenerateRequest, named: Sequence[NamedControl], *, note: Callable[[str], None]
) -> None:
    """Say what needs less memory where the device has not enough; no weight is read."""
    device = pick_device(request.device)
    free, location = free_memory(device), choose_base(request.base)
    # Files of float16 that are read as float32 need twice as much; smaller ones always fit.
    if 2 * sum(file.stat().st_size for file in weight_files(location)) < free - HEADROOM:
        return
    outline = open_base(request.base, device=request.device, dtype=request.dtype, weights=False)
    places = [locate_control(one.condition, outline, weights=one.weights) for one in named]
    memory = plan_memory(request, outline, places)
    if memory[ASKED] > free - HEADROOM:
        note(f"{device} has {in_words(free)} free, and this needs {describe_memory(memory)}")


def move_layers_if_too_large(
    base: Base, networks: Sequence[Network], *, note: Callable[[str], None]
) -> None:
    """Have the layers of denoiser and ControlNets move one by one where not all of them fit."""
    own = [one for one in networks if one is not base.denoiser]
    modules = [one for one in (base.denoiser, *own) if not has_moving_layers(one)]
    needed = sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
    free = free_memory(base.device)
    if base.device == base.offload_device or base.quantized or needed <= free - HEADROOM:
        return
    note(
        f"denoiser and ControlNets have {in_words(needed)}, and {base.device} has "
        f"{in_words(free)} free: each layer moves there when it runs, which takes longer"
    )
    for module in modules:
        move_layers(module, base.device)


def in_words(count: int) -> str:
    """A number of bytes in GB, or where it is small in MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
