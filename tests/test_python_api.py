"""`import cnctl` is light, and its names are the functions that the commands call."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnctl

ROOT = Path(__file__).parents[1]


def test_importing_loads_nothing_heavy() -> None:
    script = (
        "import sys, cnctl; dir(cnctl); cnctl.__version__;"
        "print(sorted({'torch', 'numpy', 'diffusers', 'PIL'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_names_are_those_of_the_jobs() -> None:
    from cnctl.commands.generate.run import generate

    assert cnctl.generate is generate
    for name in cnctl.__all__:
        assert getattr(cnctl, name).__doc__, name
    assert set(cnctl.__all__) < set(dir(cnctl))
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        cnctl.paint  # noqa: B018


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code in order, with two steps for many and without the training."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    first, second, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    exec(first.replace("count=2", 'count=2, settings={"steps": 2}'), names)
    exec(second.replace('{"steps": 10}', '{"steps": 2}'), names)
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == [*(f"bird-canny-{seed}.png" for seed in range(4)), "bird-canny-hint.png"]
    image = names["images"][0]  # type: ignore[index]
    assert image._repr_png_() == image.path.read_bytes()
