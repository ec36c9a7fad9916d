"""The result of `cnctl train --method input-concat`: a base's network that reads a hint.

A folder of diffusers' form, config.json and weights, with cnctl.json beside them, which
distinguishes it from any other network of its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.weights_place import read_config
from cnctl.tensorfiles.listing import CONFIG, DESCRIPTION, WEIGHTS

METHOD = "input-concat"
"""How cnctl.json names it, and what its folder in a run is called."""


@dataclass(frozen=True)
class InputConcat:
    """config: of the network, as diffusers wrote it. description: what the trainer wrote down."""

    folder: Path
    config: dict[str, Any]
    description: dict[str, Any]

    @property
    def weights(self) -> Path:
        """The file of tensors."""
        return self.folder / WEIGHTS

    @property
    def hint_channels(self) -> int:
        """Channels that it reads beside the latents."""
        return self.config["in_channels"] - self.config["out_channels"]

    @property
    def base_config(self) -> dict[str, Any]:
        """Of the network that it was made from."""
        return self.config | {"in_channels": self.config["out_channels"]}


def find_input_concat(source: Path, kind: str) -> InputConcat | None:
    """The network in a run, in a folder or beside a file of weights; None for another one.

    kind: its class of diffusers. No tensor is read. Raises CnctlError where it is one and its
    config.json makes no sense.
    """
    for folder in (source / METHOD, source, source.parent if source.name == WEIGHTS else source):
        if (folder / DESCRIPTION).is_file() and (folder / CONFIG).is_file():
            description = read_config(folder / DESCRIPTION)
            config = read_config(folder / CONFIG)
            if description.get("method") == METHOD and config.get("_class_name", kind) == kind:
                check_channels(folder / CONFIG, config)
                return InputConcat(folder, config, description)
    return None


def check_channels(path: Path, config: dict[str, Any]) -> None:
    """Raise CnctlError for a config that says nothing of a hint."""
    read, made = config.get("in_channels"), config.get("out_channels")
    if not (isinstance(read, int) and isinstance(made, int) and read > made):
        raise CnctlError(f"{path} is not that of a network that reads a hint", hint="copy it again")
