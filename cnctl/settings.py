"""Settings as frozen values, and where each default comes from.

A value is taken from the first that gives one: flag, environment (CNCTL_STEPS=30), config file
(`cnctl.toml` in the working folder or [tool.cnctl] in its pyproject.toml, then the user's own),
the base model, the condition, and at last the field's default below.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from cnctl.errors import CnctlError

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """One run of the denoising loop. Defaults are the paper's (section 4.1)."""

    steps: int = 20
    guidance_scale: float = 9.0
    control_scale: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    resolution: int = 512
    """Short side of the image in pixels."""
    scheduler: str = "ddim"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run. Defaults are the paper's (sections 3.3 and 4.3) where it states them."""

    steps: int = 10_000
    """Optimizer steps."""
    batch_size: int = 4
    learning_rate: float = 1e-5
    prompt_dropout: float = 0.5
    """Probability with which a prompt is replaced by the empty one, per sample and step."""
    resolution: int = 512
    seed: int = 0
    connect: str = "all"
    """"all" thirteen residuals, or "middle" for the middle block alone (section 3.4)."""
    checkpoint_every: int = 500
    preview_every: int = 100
    """Steps between previews with a score of fidelity; 0 for none."""
    preview_steps: int = 20
    """Denoising steps of a preview."""
    held_out: int = 16
    """Examples that are not trained on, to measure fidelity of control."""
    workers: int = 0
    """Processes that read data beside the training one."""


def resolve(
    kind: type[Settings],
    *defaults: Mapping[str, Any],
    flags: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings of this kind from flags, environment, config file, then `defaults` (first wins).

    A flag that is None was not given. Keys of `defaults` that the kind lacks are ignored.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    sources = [given, _from_environment(kind, environ), read_config() if config is None else config]
    values: dict[str, Any] = {}
    for source in [*sources, *defaults]:
        for name in {f.name for f in fields(kind)} & source.keys():  # type: ignore[arg-type]
            values.setdefault(name, source[name])
    return kind(**values)


def read_config(folder: Path | None = None) -> dict[str, Any]:
    """The nearest `cnctl.toml` or [tool.cnctl], over the user's own; {} where there is none."""
    folder = folder or Path.cwd()
    user = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "cnctl.toml"
    project = folder / "cnctl.toml"
    pyproject = folder / "pyproject.toml"
    merged = _read_toml(user)
    if pyproject.is_file():
        merged |= _read_toml(pyproject).get("tool", {}).get("cnctl", {})
    return merged | _read_toml(project)


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CnctlError(f"{path} is not valid TOML: {error}", hint="mend or remove it") from error


def _from_environment(kind: type, environ: Mapping[str, str]) -> dict[str, Any]:
    types = get_type_hints(kind)
    values = {}
    for name, to_type in types.items():
        variable = f"CNCTL_{name.upper()}"
        if variable not in environ:
            continue
        try:
            values[name] = to_type(environ[variable])
        except ValueError as error:
            raise CnctlError(
                f"{variable}={environ[variable]!r} is not a {to_type.__name__}",
                hint=f"unset {variable} or give a {to_type.__name__}",
            ) from error
    return values
