"""Write the package of a new condition: what `cnctl conditions new` does."""

from __future__ import annotations

from keyword import iskeyword
from pathlib import Path

from cnctl.errors import CnctlError, OutputError, writing
from cnctl.plugin import Condition
from cnctl.registry import condition_names
from cnctl.system.atomic import atomic_path

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "cnctl-{{name}}"
version = "0.1.0"
description = "The condition {{name}} for cnctl"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["cnctl", "numpy"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."cnctl.conditions"]
{{name}} = "{{module}}:{{attribute}}"

[tool.hatch.build.targets.wheel]
only-include = ["{{module}}.py"]
"""

MODULE = '''\
"""The condition {{name}}: few grey levels, to be replaced by your own detector."""

from cnctl.plugin import Condition, Option


def load_detector(device):
    """Runs once. Heavy imports and loading of weights belong here, not at the top of the file."""
    import numpy as np

    def detect(image, *, levels):
        """Take RGB uint8 (H, W, 3); return uint8 (H, W) or (H, W, C), or None for no hint."""
        grey = image.mean(axis=2)
        steps = np.floor(grey * levels / 256)
        return (steps * 255 / (levels - 1)).astype(np.uint8)

    return detect


{{attribute}} = Condition(
    name="{{name}}",
    summary="Few grey levels",
    load_detector=load_detector,
    options={"levels": Option(4, "how many grey levels", minimum=2, maximum=16)},
    metric="rmse",
    licence="",
)
'''

TEST = """\
import numpy as np

from cnctl.testing import check_condition, load_detector
from {{module}} import {{attribute}}


def test_contract():
    assert check_condition({{attribute}}) == []


def test_a_white_image_stays_white():
    white = np.full((32, 48, 3), 255, np.uint8)
    assert (load_detector({{attribute}})(white) == 255).all()
"""

README = """\
# cnctl-{{name}}

The condition `{{name}}` for cnctl.

    pip install .
    cnctl conditions {{name}}
    cnctl conditions check {{name}}
    cnctl annotate --cond {{name}} photo.jpg

To run its test: `pip install '.[test]' && pytest`
"""

FILES = {
    "pyproject.toml": PYPROJECT,
    "{{module}}.py": MODULE,
    "tests/test_{{word}}.py": TEST,
    "README.md": README,
}
USED = {"check_condition", "load_detector", "np"}
"""Names of the files above that the condition's own must not replace."""


def new_condition(name: str, *, folder: Path = Path()) -> Path:
    """Write the package `cnctl-<name>` into the folder; return its path.

    Raises CnctlError for a name that is taken or misspelt, OutputError where the package exists or
    cannot be written. It appears whole or not at all.
    """
    _check_name(name)
    package = folder / f"cnctl-{name}"
    if package.exists():
        raise OutputError(f"{package} exists", hint="remove it, or choose another folder with -o")
    hint = "choose another folder with -o"
    with writing(package, hint=hint), atomic_path(package, overwrite=False) as draft:
        for path, text in FILES.items():
            target = draft / _filled(path, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled(text, name), encoding="utf-8")
    return package


def _check_name(name: str) -> None:
    try:
        Condition(name=name, summary="", load_detector=lambda device: lambda image: None)
    except ValueError as error:
        raise CnctlError(str(error), hint="for instance: cnctl conditions new blur") from error
    is_word = name[0].isalpha() and name[-1].isalnum()
    if not is_word or name in {"new", "check"} or name in condition_names():
        raise CnctlError(
            f"the name {name!r} cannot be used",
            hint="it must start with a letter, end with a letter or digit, "
            "not be installed already, nor be `new` or `check`",
        )


def _filled(text: str, name: str) -> str:
    word = name.replace("-", "_")
    attribute = f"{word}_" if iskeyword(word) or word in USED else word
    text = text.replace("{{name}}", name).replace("{{attribute}}", attribute)
    return text.replace("{{word}}", word).replace("{{module}}", f"cnctl_{word}")
