"""The result of `cnctl train --method input-concat`: a whole U-Net that reads a hint.

A folder of diffusers' form, config.json and weights, with cnctl.json beside them, which
distinguishes it from any other U-Net.
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
    """config: of the U-Net, as diffusers wrote it. description: what the trainer wrote down."""

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
        """Of the U-Net that it was made from."""
        return self.config | {"in_channels": self.config["out_channels"]}


def find_input_concat(source: Path) -> InputConcat | None:
    """The U-Net in a run, in a folder or beside a file of weights; None for another U-Net.

    No tensor is read. Raises CnctlError where it is one and its config.json makes no sense.
    """
    for folder in (source / METHOD, source, source.parent if source.name == WEIGHTS else source):
        if (folder / DESCRIPTION).is_file() and (folder / CONFIG).is_file():
            description = read_config(folder / DESCRIPTION)
            if description.get("method") == METHOD:
                return InputConcat(folder, _read_config(folder / CONFIG), description)
    return None


def _read_config(path: Path) -> dict[str, Any]:
    config = read_config(path)
    read, made = config.get("in_channels"), config.get("out_channels")
    if not (isinstance(read, int) and isinstance(made, int) and read > made):
        raise CnctlError(f"{path} is not that of a U-Net that reads a hint", hint="copy it again")
    return config
