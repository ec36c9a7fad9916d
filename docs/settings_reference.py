"""Write docs/settings.md from the settings' declarations: `python docs/settings_reference.py`."""

from __future__ import annotations

from pathlib import Path

from cnctl.settings import CommonSettings
from cnctl.settings.declaration import Setting, declarations
from cnctl.settings.file import TABLES
from cnctl.settings.resolve import variable_of
from cnctl.settings.values import kind_of

HEAD = """# Settings

Written by `docs/settings_reference.py` from the settings' declarations; a test compares the two.

A setting's value is taken from the first of these that gives one:

1. the flag, or the keyword of Python: `--steps 30`, `settings={"steps": 30}`;
2. the environment variable: `CNCTL_GENERATE_STEPS=30`; an empty one counts as unset;
3. the settings file;
4. the base model;
5. the condition;
6. the default below.

## The file

The settings of three files are put together; where several give the same setting, the first counts:

1. `cnctl.toml` in the working folder;
2. the table `[tool.cnctl]` of `pyproject.toml` in the working folder, whose subtables are
   `[tool.cnctl.generate]` and so on;
3. `cnctl.toml` in the folder that `XDG_CONFIG_HOME` names, or in `~/.config`.

```toml
base = "sd15"

[generate]
steps = 30
scheduler = "unipc"

[train]
batch_size = 8
ema = 0.999
```

An unknown key or table, a value of another type and a value out of range are errors (exit code 2)
that name the file and the key. A variable `CNCTL_...` that nothing reads is named on stderr.
Bounds are included unless they read `<` or `>`.
"""

HEADINGS = {
    "": "## Top level: all commands",
    "annotate": "## `[annotate]`: cnctl annotate",
    "generate": "## `[generate]`: cnctl generate and evaluate",
    "train": "## `[train]`: cnctl train",
}


def reference() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n{_section(kind)}\n" for kind in (CommonSettings, *TABLES))


def _section(kind: type) -> str:
    settings = declarations(kind)
    variable = f"`{variable_of(kind, 'KEY')}`" if kind.SECTION else "`CNCTL_KEY`"
    return "\n".join(
        [
            f"{HEADINGS[kind.SECTION]}\n",
            f"Environment variables: {variable}, with the key in capitals.\n",
            "| key | value | default | |",
            "|---|---|---|---|",
            *(_row(setting) for setting in settings.values()),
        ]
    )


def _row(setting: Setting) -> str:
    default = setting.shown_default or ("false" if setting.type is bool else "none")
    former = f" (formerly `{setting.flag.former}`)" if setting.flag.former else ""
    cells = (f"`{setting.name}`{former}", _value(setting), default, setting.flag.help)
    return f"| {' | '.join(cells)} |"


def _value(setting: Setting) -> str:
    if "|" in (setting.metavar or ""):
        return setting.metavar.replace("|", ", ")
    bounds = (limit.symbols for limit in setting.limits if limit.symbols)
    return ", ".join((kind_of(setting), *bounds))


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(reference(), encoding="utf-8")
