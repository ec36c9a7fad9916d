"""Where each setting comes from: flag, environment, settings file, base, condition, default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from cnctl.errors import CnctlError
from cnctl.settings.common import CommonSettings
from cnctl.settings.declaration import declarations, with_current_names
from cnctl.settings.file import read_config
from cnctl.settings.values import did_you_mean, value_from_text

Settings = TypeVar("Settings")


def resolve(
    kind: type[Settings],
    *defaults: Mapping[str, Any],
    flags: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings of this kind from flags, environment, settings file, then `defaults` (first wins).

    A flag that is None was not given. Keys of `defaults` that the kind lacks are ignored.
    config: what `read_config` returns; None reads it. Raises CnctlError that names the setting.
    """
    config = read_config() if config is None else config
    section: str = kind.SECTION  # type: ignore[attr-defined]
    given = {name: value for name, value in flags.items() if value is not None}
    given = with_current_names(kind, given)
    file = config.get(section, {}) if section else config
    values: dict[str, Any] = {}
    for source in (given, _from_environment(kind, environ), file, *defaults):
        for name in declarations(kind).keys() & source.keys():
            values.setdefault(name, source[name])
    return kind(**values)


def parse_setting(kind: type, name: str, text: str) -> Any:
    """A setting's value from text, as its own type; CnctlError where there is none of this name."""
    known = declarations(kind)
    if name not in known:
        raise CnctlError(f"there is no setting {name!r}", hint=did_you_mean(name, known))
    return value_from_text(known[name], text, name)


def variable_of(kind: type, name: str) -> str:
    """The environment variable of a setting: CNCTL_TRAIN_STEPS, CNCTL_BASE."""
    section: str = kind.SECTION  # type: ignore[attr-defined]
    return "_".join(filter(None, ("CNCTL", section, name))).upper()


def common_settings() -> CommonSettings:
    """The settings that all commands share, as environment and settings file give them."""
    return resolve(CommonSettings, flags={})


def _from_environment(kind: type, environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        setting.name: value_from_text(setting, environ[variable], variable)
        for setting in declarations(kind).values()
        for name in (setting.flag.former, setting.name)
        if name and environ.get(variable := variable_of(kind, name))
    }
