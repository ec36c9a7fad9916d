"""The settings file: `cnctl.toml`, or [tool.cnctl] in a project's pyproject.toml."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.settings.annotate import AnnotateSettings
from cnctl.settings.common import CommonSettings
from cnctl.settings.declaration import Setting, declarations, with_current_names
from cnctl.settings.generate import GenerateSettings
from cnctl.settings.train import TrainSettings
from cnctl.settings.values import did_you_mean, value_from_document

TABLES = (AnnotateSettings, GenerateSettings, TrainSettings)


def read_config(folder: Path | None = None) -> dict[str, Any]:
    """Settings by name, those of a command in its own mapping; {} where there is no file.

    `cnctl.toml` in `folder` (default: the working folder) counts before [tool.cnctl] in its
    pyproject.toml, and this before the user's own `cnctl.toml` in $XDG_CONFIG_HOME (~/.config).
    Raises CnctlError that names the file, and the key or table that it may not have.
    """
    folder = folder or Path.cwd()
    user = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "cnctl.toml"
    pyproject = folder / "pyproject.toml"
    project = _read_toml(pyproject).get("tool", {}).get("cnctl", {})
    merged: dict[str, Any] = {}
    for content in (
        _checked(_read_toml(user), user),
        _checked(project, pyproject, prefix="tool.cnctl"),
        _checked(_read_toml(folder / "cnctl.toml"), folder / "cnctl.toml"),
    ):
        for key, value in content.items():
            merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CnctlError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise CnctlError(f"{path} is not valid TOML: {error}", hint="fix or remove it") from error


def _checked(content: Mapping[str, Any], path: Path, *, prefix: str = "") -> dict[str, Any]:
    """What a file says, every value of the type and in the range that its setting declares."""
    tables = {kind.SECTION: kind for kind in TABLES}
    top = {key: value for key, value in content.items() if key not in tables}
    common = declarations(CommonSettings)
    checked = _checked_table(top, common, where=_where(path, prefix), others=tables)
    for name in tables.keys() & content.keys():
        if not isinstance(content[name], dict):
            raise CnctlError(
                f"{path} has {name} = {content[name]!r}", hint=f"{name} is a table: write [{name}]"
            )
        where = _where(path, f"{prefix}.{name}".lstrip("."))
        table = with_current_names(tables[name], content[name])
        checked[name] = _checked_table(table, declarations(tables[name]), where=where)
    return checked


def _checked_table(
    table: Mapping[str, Any],
    settings: Mapping[str, Setting],
    *,
    where: str,
    others: Mapping[str, Any] = {},
) -> dict[str, Any]:
    for name, value in table.items():
        if name not in settings:
            what = "table" if isinstance(value, dict) else "key"
            known = [*settings, *others]
            raise CnctlError(
                f"{where} has the unknown {what} {name!r}", hint=did_you_mean(name, known)
            )
    checked = {}
    for name, value in table.items():
        checked[name] = value_from_document(settings[name], value, f"{name} in {where}")
    return checked


def _where(path: Path, table: str) -> str:
    return f"{path} under [{table}]" if table else str(path)
