"""Which base and which ControlNet a command uses when the user names none or names them short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel
from huggingface_hub import try_to_load_from_cache

from cnctl.core.base import Base, check_same_family, default_base, load_base, locate_base
from cnctl.errors import CnctlError, MissingError
from cnctl.formats import load_controlnet, read_description
from cnctl.plugin import Condition

Note = Callable[[str], None]


def open_base(
    source: str | None, *, device: str | None, dtype: str | None, note: Note = lambda text: None
) -> Base:
    """Load the named base, or the default one; `note` hears which it is and what it cannot do."""
    if source is None:
        source, reason = default_base()
        note(f"base: {source} ({reason})")
    base = load_base(source, device=device, dtype=dtype)
    if limits := base.defaults.get("limits"):
        note(f"{base.name}: {limits}")
    return base


def open_control(
    condition: Condition, base: Base, *, base_source: str | None, control: str | None
) -> tuple[ControlNetModel, dict[str, Any]]:
    """The ControlNet for a condition on this base, with its description.

    `control` is a folder, a run of `cnctl train`, a file, a cached hub id, or None for the one
    that the base brings along or that the condition recommends for the base's family.
    """
    source = locate_control(condition, base, base_source=base_source, control=control)
    description = read_description(source)
    check_same_family(description["config"], base.unet.config)
    _check_channels(condition, description, source)
    return load_controlnet(source, device=base.device, dtype=base.dtype)


def locate_control(
    condition: Condition, base: Base, *, base_source: str | None, control: str | None
) -> Path:
    """Where the weights of this control lie; MissingError says how to get them."""
    if control is not None:
        return _find(control)
    own = _own_control(base_source, condition.name)
    if own is not None:
        return own
    fitting = [weights for weights in condition.weights if weights.family == base.family]
    for weights in fitting:
        if cached := _cached(weights.source):
            return cached
    raise MissingError(
        f"no ControlNet for {condition.name} on {base.family} is at hand",
        hint=f"fetch one: hf download {fitting[0].source} ({fitting[0].licence})"
        if fitting
        else f"train one: cnctl train --cond {condition.name}, or name one with --control",
    )


def _find(control: str) -> Path:
    path = Path(control)
    if (path / "controlnet" / "config.json").is_file():  # a run of `cnctl train`
        return path / "controlnet"
    if path.exists():
        return path
    if cached := _cached(control):
        return cached
    raise MissingError(
        f"no ControlNet {control!r}: neither a folder, a file, nor in the Hugging Face cache",
        hint=f"check the path, or fetch it: hf download {control}",
    )


def _own_control(base_source: str | None, name: str) -> Path | None:
    folder = Path(locate_base(base_source or default_base()[0]).path) / "controls" / name
    return folder if folder.is_dir() else None


def _cached(hub_id: str) -> Path | None:
    if hub_id.count("/") != 1:
        return None
    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except ValueError:  # not a repository name
        return None
    return Path(config).parent if isinstance(config, str) else None


def _check_channels(condition: Condition, description: dict[str, Any], source: Path) -> None:
    channels = description["hint_channels"]
    if channels != condition.hint_channels:
        raise CnctlError(
            f"{source} reads hints of {channels} channels, "
            f"but {condition.name} makes {condition.hint_channels}",
            hint="give the ControlNet that was trained on this condition",
        )
