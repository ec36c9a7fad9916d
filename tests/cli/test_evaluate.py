"""The command, in this process: its table, its JSON, and its exit code where examples fail."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cnctl.cli import app
from cnctl.errors import SomeInputsFailed


@pytest.fixture(autouse=True)
def _photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """photos/a.png, photos/b.png, and one that cannot be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    Path("photos").mkdir()
    for number, name in enumerate("ab"):
        small = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((128, 128), 0).save(f"photos/{name}.png")


def run(*words: str) -> str:
    """Data on stdout of `cnctl evaluate ...`."""
    result = CliRunner().invoke(app, ["evaluate", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_prints_a_table_or_a_document() -> None:
    words = ["--cond", "canny", "--data", "photos", "--base", "tiny", "--steps", "1", "-q"]
    title, figures = run(*words).splitlines()
    assert title.split()[:5] == ["edge_f1", "of", "2", "hints,", "more"]
    assert figures.split()[0] == "tiny"
    document = json.loads(run(*words, "--resume", "--json"))
    mean = document["intervals"]["fidelity"]["tiny"]["mean"]
    assert f"{mean:.3f}" == figures.split()[1]
    assert [case["prompt"] for case in document["cases"]] == [""] * 2, "the base's own"
    assert all(Path(page).is_file() for page in document["pages"])


def test_an_example_that_cannot_be_read_does_not_stop_the_rest() -> None:
    Path("photos/c.png").write_text("no image")
    with pytest.raises(SomeInputsFailed, match="1 of 3 examples failed"):
        run("--cond", "canny", "--data", "photos", "--outputs", "photos", "-q")
    document = json.loads(Path("evaluation/evaluation.json").read_text())
    assert [failure["name"] for failure in document["failed"]] == ["c.png"]
