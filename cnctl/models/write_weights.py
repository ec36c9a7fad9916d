"""Write the tensors of a ControlNet, and what is known of it, as a folder or as one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.weights_place import METADATA_KEY
from cnctl.tensorfiles.lazy import Tensors
from cnctl.tensorfiles.stream import Advance
from cnctl.tensorfiles.write import names_a_file, write_file, write_folder

PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth"})


def refuse_pickle(target: Path) -> None:
    """Raise CnctlError where a target's name is that of a pickle."""
    if target.suffix in PICKLES and not target.is_dir():
        raise CnctlError(
            f"{target} would be a pickle; cnctl writes only safetensors",
            hint=f"write {target.with_suffix('.safetensors')}, which webui and ComfyUI read too",
        )


def write_weights(
    target: Path,
    tensors: Tensors,
    *,
    config: Mapping[str, Any],
    description: Callable[[bool], Mapping[str, Any]],
    base_update: Tensors,
    overwrite: bool,
    advance: Advance,
) -> None:
    """Write tensors under their final names; config and description lie beside or in the file.

    base_update: see `write_folder`; a file has no place for it.
    description(done) may come late: before, only its length counts.
    """
    if not names_a_file(target):
        write_folder(
            target,
            tensors,
            config=config,
            description=lambda: description(True),
            base_update=base_update,
            overwrite=overwrite,
            advance=advance,
        )
        return

    def metadata(done: bool) -> dict[str, str]:
        known = {"config": config, "description": description(done)}
        return {METADATA_KEY: json.dumps(known, sort_keys=True)}

    write_file(target, tensors, metadata=metadata, overwrite=overwrite, advance=advance)
