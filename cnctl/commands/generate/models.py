"""The networks of a run in memory: its base, and each ControlNet once it was needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cnctl.commands.generate.adapters import Adapters, load_adapters
from cnctl.commands.generate.events import OnEvent
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.shared.events import Note
from cnctl.commands.shared.weights import NamedControl, add_base_updates, open_base, open_control
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.compiling import compile_blocks
from cnctl.models.network import Network
from cnctl.models.quantize import check_library, quantize_base
from cnctl.tensorfiles.base_update_file import has_base_update


class Models:
    """The base of a request with its adapters, and the ControlNets that were opened so far."""

    def __init__(self, base: Base, adapters: Adapters, *, compiled: bool = False) -> None:
        self.base = base
        self.adapters = adapters
        self.compiled = compiled
        if compiled:
            compile_blocks(base.denoiser, base.family)
        self._networks: dict[tuple[str, Path, Path | None], Network] = {}
        self._trained_with: list[Path] | None = None

    def open_network(self, control: NamedControl, place: Path) -> Network:
        """The network of a control whose weights are at this place; read once."""
        key = (control.condition.name, place, control.config)
        if key not in self._networks:
            network = open_control(
                control.condition, self.base, weights=str(place), config=control.config
            )
            if self.compiled:
                compile_blocks(network, self.base.family)
            self._networks[key] = network
        return self._networks[key]

    def update_base(self, places: Iterable[Path]) -> None:
        """Add to the base what was trained together with the weights at these places.

        Raises CnctlError where an earlier job has left the base with other changes.
        """
        changes = [place for place in dict.fromkeys(places) if has_base_update(place)]
        if changes and self.base.quantized:
            raise CnctlError(
                f"{changes[0]} changes the base, whose weights are quantized",
                hint="leave out --quantize",
            )
        if self._trained_with is None:
            add_base_updates(self.base, changes)
            self._trained_with = changes
        elif changes != self._trained_with:
            raise CnctlError(
                "these weights and those of the first job were trained with different bases",
                hint="run this job in its own process",
            )


def load_models(request: GenerateRequest, on_event: OnEvent, *, denoiser: bool = True) -> Models:
    """The base of a request with its LoRAs and embeddings; ControlNets are opened later.

    denoiser: False where `read_denoiser` loads it, once the prompts are read.
    """
    if request.quantize:
        check_library(request.quantize)
    base = open_base(
        request.base,
        device=request.device,
        dtype=request.dtype,
        low_memory=request.low_memory or request.quantize is not None,
        denoiser=denoiser,
        note=lambda text: on_event(Note(text)),
    )
    adapters = load_adapters(base, request.loras, request.embeddings)
    if request.quantize:
        base = quantize_base(base, request.quantize, low_memory=request.low_memory)
    return Models(base, adapters, compiled=request.compile)
