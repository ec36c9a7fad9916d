"""What families of transformers have in common, or lack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import nn

from cnctl.errors import CnctlError

UNSUPPORTED: Mapping[str, str] = {
    "connect": "a transformer has no middle block",
    "emphasis": "its text encoders read prompts as they are",
    "hint_encoder": "its ControlNets read hints through the autoencoder",
    "method": "no published network of it reads hints in its first layer",
}
"""Setting -> why it must keep its default, as half a sentence."""
SCHEDULER = "flow_match_euler"


def all_parameters(transformer: nn.Module, part: str) -> dict[str, nn.Parameter]:
    """By name; `Family.parameters_to_unfreeze` where nothing smaller can be unfrozen."""
    return dict(transformer.named_parameters())


def refuse(what: str, family: str, flag: str) -> Any:
    """A function that raises CnctlError: what the flag gives is not supported for the family."""

    def raise_error(*_: Any, **__: Any) -> NoReturn:
        raise CnctlError(f"{what} for {family} is not supported", hint=f"leave out {flag}")

    return raise_error
