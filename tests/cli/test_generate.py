"""The command, in this process: its flags reach the job, and its output is made for scripts."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cnctl.cli import app

CAT = str(Path(__file__).parents[2] / "examples/images/cat.jpg")
COMMON = ["--base", "tiny", "--steps", "1", "--quiet"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


def run(*words: str, code: int = 0) -> str:
    """Data on stdout of `cnctl generate ...`."""
    result = CliRunner().invoke(app, ["generate", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


@pytest.mark.slow
def test_an_image_is_made_again_and_changed(tmp_path: Path) -> None:
    first = run("--cond", "canny", CAT, "-p", "a cat", *COMMON, "--seed", "4").strip()
    assert first == "out/cat-canny-4.png"
    again = run("--from", first, "-o", "again", "-q").strip()
    assert again == "again/cat-canny-4.png"
    assert np.array_equal(pixels(again), pixels(first))
    changed = run("--from", first, "-o", "changed", "-q", "-p", "a dog", "--json")
    (image,) = json.loads(changed)["images"]
    assert (image["prompt"], image["seed"], image["steps"]) == ("a dog", 4, 1)
    other = run("--from", first, "-o", "other", "-q", "--cond", f"canny:{CAT}:0.3", "--json")
    (image,) = json.loads(other)["images"]
    assert image["controls"][0]["scale"] == 0.3


def test_sheets_and_a_page_follow_the_images(tmp_path: Path) -> None:
    words = ["--cond", "canny", CAT, "-p", "a cat", *COMMON, "--seed", "0"]
    out = run(
        *words, "--sweep", "control_scale=0,1", "--grid", "--gallery", "all.html", "--preview"
    )
    lines = out.splitlines()
    assert lines[2:] == ["out/cat-canny-grid.png", "all.html"]
    width = pixels(lines[2]).shape[1]
    assert width == 3 * (128 + 4) + 4
    assert 'src="out/cat-canny-hint.png"' in Path("all.html").read_text()


@pytest.mark.slow
def test_a_mode_given_once_is_for_all_and_twice_for_each() -> None:
    words = ["-p", "a cat", *COMMON, "--json", "--cond", f"canny:{CAT}", "--cond", f"canny:{CAT}"]
    once = json.loads(run(*words, "--control-mode", "prompt"))["images"][0]
    assert [control["mode"] for control in once["controls"]] == ["prompt", "prompt"]
    twice = run(*words, "--control-mode", "control", "--control-mode", "balanced")
    modes = [control["mode"] for control in json.loads(twice)["images"][0]["controls"]]
    assert modes == ["control", "balanced"]


def test_pipes_hold_one_image(tmp_path: Path) -> None:
    words = ["generate", "--cond", "canny", "-", "-p", "a cat", *COMMON, "--seed", "2"]
    photo = Path(CAT).read_bytes()
    piped = CliRunner().invoke(app, [*words, "-o", "-"], input=photo, catch_exceptions=False)
    assert piped.exit_code == 0
    assert [*tmp_path.iterdir()] == []
    image = np.asarray(Image.open(io.BytesIO(piped.stdout_bytes)))
    assert np.array_equal(image, pixels(run(*words[1:3], CAT, *words[4:]).strip()))
    for more in (["-n", "2"], ["--grid"], ["--json"], ["--save-steps", "1"]):
        refused = CliRunner().invoke(app, [*words, "-o", "-", *more], input=photo)
        assert refused.exit_code != 0
        assert refused.stdout_bytes == b""
