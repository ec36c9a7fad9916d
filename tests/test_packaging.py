"""The wheel that comes out of the sdist holds both packages, the entry points and the weights."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cnctl.weights import EMBEDDED_BASES

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_wheel_from_sdist_holds_every_source_file(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cnctl").rglob("*.py")}
    plugins = ROOT / "plugins"
    templates = (ROOT / "cnctl/commands/shared/report/templates").iterdir()
    sources |= {path.relative_to(ROOT).as_posix() for path in templates}
    sources |= {p.relative_to(plugins).as_posix() for p in plugins.glob("cnctl_conditions/**/*.py")}
    assert sources <= names


def test_wheel_holds_weights_and_type_markers(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    folders = [ROOT / "cnctl" / "tiny" / folder for folder in EMBEDDED_BASES.values()]
    found = {folder: {path for path in folder.rglob("*") if path.is_file()} for folder in folders}
    assert all(found.values())
    files = {path.relative_to(ROOT).as_posix() for path in set().union(*found.values())}
    assert files | {"cnctl/py.typed", "cnctl_conditions/py.typed"} <= names


def test_wheel_stays_small(wheel: zipfile.ZipFile) -> None:
    assert wheel.filename
    assert Path(wheel.filename).stat().st_size < 95e6


def test_every_condition_file_has_an_entry_point(wheel: zipfile.ZipFile) -> None:
    path = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    lines = wheel.read(path).decode().splitlines()
    group = lines[lines.index("[cnctl.conditions]") + 1 :]
    entered = {line.split("=")[1].split(":")[0].strip() for line in group if "=" in line}
    files = {p.stem for p in (ROOT / "plugins/cnctl_conditions").glob("*.py")} - {"__init__"}
    assert {f"cnctl_conditions.{stem}" for stem in files} == entered


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cnctl", "cnctl_conditions"}
