"""`cnctl info`: what a file is, before anything is done with it. Needs no torch."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cnctl.commands.shared.cached import cached_weights, find_named
from cnctl.commands.shared.known_controls import find_control, find_licence
from cnctl.errors import CnctlError, MissingError, shown
from cnctl.models.layouts import find_layout
from cnctl.models.locate import SHORT_NAMES
from cnctl.models.weights_info import WeightsInfo as WeightsInfo

IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What an image says of how it was made: the texts in it, "cnctl" as JSON where it is that."""

    path: Path
    metadata: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path)}


def info(
    source: str | Path, *, hash: bool = False, config: Path | None = None
) -> WeightsInfo | ImageInfo:
    """Describe ControlNet weights (file, folder, run, or a name that `cnctl models` lists) or an
    image made by `generate`.

    hash: also read the whole file for its sha256. config: a config.json that says what the file
    does not. CnctlError says what another file is.
    """
    path = Path(source)
    if path.is_file() and _is_image(path):
        return _describe_image(path)
    if not path.exists():
        path = _find_named(str(source))
    found = find_layout(path).describe(path, hash=hash, config=config)
    return replace(found, licence=find_licence(path))


def _find_named(name: str) -> Path:
    """The weights that `cnctl models` lists under this name."""
    if found := cached_weights(name):
        return found
    if find_control(name):
        return find_named(name)  # which says how to fetch what is not installed
    if name in SHORT_NAMES:
        raise CnctlError(f"{name} is a base, not a ControlNet", hint="give it with --base")
    raise MissingError(
        f"{shown(name)} does not exist and is not installed",
        hint="give weights, an image of generate, or a name that cnctl models lists",
    )


def _is_image(path: Path) -> bool:
    """Whether it is a picture, or a hint that no picture format can hold."""
    if path.suffix.lower() == ".npz":
        return True
    with path.open("rb") as file:
        return file.read(8).startswith(IMAGES)


def _describe_image(path: Path) -> ImageInfo:
    from cnctl.images import read_metadata

    metadata: dict[str, Any] = dict(read_metadata(path))
    with suppress(KeyError, ValueError):
        metadata["cnctl"] = json.loads(metadata["cnctl"])
    return ImageInfo(path=path, metadata=metadata)
