"""Where bases are: embedded, at a path, or in the hub's cache. Nothing is downloaded here."""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path

from cnctl.errors import CnctlError, MissingError
from cnctl.models.identify import check_role
from cnctl.models.location import Location, cached_folder
from cnctl.models.published import BASES
from cnctl.models.signatures import BASE
from cnctl.weights import EMBEDDED_BASES

HUB_NAMES = {name: base.ids for name, base in BASES.items()}
"""Short names of bases on the hub, and the ids that they may be cached under."""
_OURS = Path(str(importlib.resources.files("cnctl"))) / "tiny"
EMBEDDED = {name: _OURS / folder for name, folder in EMBEDDED_BASES.items()}
"""The folders of the bases that come with cnctl, by name."""
SHORT_NAMES = (*EMBEDDED, *HUB_NAMES)


def default_base() -> Location:
    """Stable Diffusion 1.5 where the hub's cache holds it, else the embedded base.

    The location's reason says which, and how to get the other.
    """
    for hub_id in HUB_NAMES["sd15"]:
        if folder := cached_folder(hub_id):
            return Location(folder, hub_id, f"using {hub_id}, found in the hub cache")
    reason = "using the base tiny, which draws toys; for photographs: cnctl models pull sd15"
    return Location(_embedded_folder("tiny"), "tiny", reason)


def locate_base(source: str | Path) -> Location:
    """Find a base without reading it: a short name first, then a path, then the hub's cache."""
    name = str(source)
    if name in EMBEDDED:
        return Location(_embedded_folder(name), name, "an embedded base")
    if name in HUB_NAMES:
        return _locate_cached(name, HUB_NAMES[name])
    path = Path(source).expanduser()
    if name and path.is_dir():
        return _check_folder(path)
    if path.is_file():
        return Location(path, path.stem, "the file given")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and path.suffix != ".safetensors":
        return _locate_cached(name, (name,))
    near = difflib.get_close_matches(name, SHORT_NAMES, n=1)
    known = f"did you mean {near[0]!r}?" if near else f"short names are {', '.join(SHORT_NAMES)}"
    raise MissingError(f"no base at {name!r}", hint=f"give a folder, a file or a hub id; {known}")


def _embedded_folder(name: str) -> Path:
    if not (EMBEDDED[name] / "model_index.json").is_file():
        raise MissingError(f"this installation lacks the base {name}", hint="reinstall cnctl")
    return EMBEDDED[name]


def _locate_cached(name: str, hub_ids: Sequence[str]) -> Location:
    for hub_id in hub_ids:
        if folder := cached_folder(hub_id):
            return Location(folder, hub_id, f"{hub_id} in the hub cache")
    raise MissingError(
        f"{name!r} is neither a path nor in the hub cache",
        hint=f"fetch it with: cnctl models pull {name}",
    )


def _check_folder(path: Path) -> Location:
    if not (path / "model_index.json").is_file():
        check_role(path, BASE)
        raise CnctlError(
            f"{path} is not a base: it has no model_index.json",
            hint="give a folder that diffusers' save_pretrained has written",
        )
    return Location(path, path.resolve().name, "the folder given")
