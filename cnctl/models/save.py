"""Write a trained network as a folder that diffusers reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnctl.models.factors import MARK
from cnctl.models.weights_place import METADATA_KEY
from cnctl.tensorfiles.lazy import ready
from cnctl.tensorfiles.write import write_file, write_folder


def save_network(
    network: Any,
    folder: str | Path,
    *,
    description: Mapping[str, Any],
    base_update: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a folder that `from_pretrained` of the network's diffusers class reads.

    With cnctl.json beside. The folder appears whole or not at all. An earlier network at that place
    is replaced; a folder with anything else in it is left alone (OutputError). description: JSON
    values. base_update: changes of the base that was trained too, by parameter name.
    """
    config = diffusers_config(network)
    tensors = {name: ready(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}
    described = {name: value for name, value in description.items() if name != "config"}
    write_folder(
        Path(folder),
        tensors,
        config=config,
        description=lambda: described,
        base_update={name: ready(tensor) for name, tensor in (base_update or {}).items()},
        overwrite=True,
    )


def save_low_rank(
    network: Any, path: Path, tensors: Mapping[str, Tensor], *, description: Mapping[str, Any]
) -> None:
    """Write what a network adds to its base as a Control-LoRA, in place of an earlier one.

    tensors: by the file's names, without the mark. Config and description go into its metadata.
    """
    written = {"config": diffusers_config(network), "description": dict(description)}
    marked = {MARK: torch.zeros(0), **tensors}
    write_file(
        path,
        {name: ready(tensor.detach().cpu().contiguous()) for name, tensor in marked.items()},
        metadata=lambda done: {METADATA_KEY: json.dumps(written)},
        overwrite=True,
    )


def diffusers_config(network: Any) -> dict[str, Any]:
    """The config of a diffusers module, or of a class of ours that extends one."""
    config = json.loads(network.to_json_string())
    config.pop("_name_or_path", None)  # a place on this machine, nobody else's business
    kinds = (kind for kind in type(network).__mro__ if kind.__module__.startswith("diffusers."))
    return config | {"_class_name": next(kinds).__name__}
