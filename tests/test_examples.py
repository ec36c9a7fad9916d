"""The shell scripts of examples/, run as they stand on a small folder of photographs."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cnctl.commands.shared.report.sheets import arrange
from cnctl.images import read_hint, read_image, read_metadata, write_image
from cnctl.registry import condition_names

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two of the example photographs, one of them in a folder below; both names have a space."""
    folder = tmp_path / "my photos"
    (folder / "of pets").mkdir(parents=True)
    shutil.copy(EXAMPLES / "images/cat.jpg", folder / "of pets")
    shutil.copy(EXAMPLES / "images/rocket.jpg", folder)
    return folder


def run_script(name: str, photos: Path) -> tuple[list[str], str]:
    """Lines on stdout, and stderr, of a script that ends well. It writes to photos/../out."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    settings = {"CNCTL_BASE": "tiny", "CNCTL_GENERATE_STEPS": "2", "PATH": path}
    run = subprocess.run(
        ["sh", str(EXAMPLES / name), photos.name, "out"],
        cwd=photos.parent,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines(), run.stderr


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up there.
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    return module


def images_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))


@pytest.mark.slow
def test_pipe(photos):
    output, errors = run_script("pipe.sh", photos)
    assert errors == ""
    assert images_below(photos.parent / "out") == ["rocket.png"]
    hint = read_hint(photos.parent / "out/rocket.png", channels=1)
    white = int((hint == 255).sum())
    assert output == [f"{hint.shape[1]} x {hint.shape[0]}, {white} pixels of edge"]


@pytest.mark.slow
def test_find_xargs(photos):
    (photos / "of toys").mkdir()
    shutil.copy(EXAMPLES / "images/rocket.jpg", photos / "of toys/cat.jpg")
    output, errors = run_script("find-xargs.sh", photos)
    assert errors == ""
    out = photos.parent / "out"
    assert len(output) == 6
    assert all((photos.parent / line).is_file() for line in output)
    folders, names = ("", "low-150/", "low-50/"), ("of pets/cat", "of toys/cat", "rocket")
    expected = [f"{folder}{name}-canny.png" for folder in folders for name in names]
    assert images_below(out) == sorted(expected)
    few, many = (
        read_hint(out / f"low-{low}/of pets/cat-canny.png", channels=1) for low in (150, 50)
    )
    assert (few > 0).sum() < (many > 0).sum()


@pytest.mark.slow
def test_folder(photos):
    (photos / "broken.jpg").write_bytes(b"no image")
    output, errors = run_script("folder.sh", photos)
    out = photos.parent / "out"
    assert "broken.jpg is a text file" in errors
    assert images_below(out / "hints") == ["of pets/cat-canny.png", "rocket-canny.png"]
    assert len(images_below(out / "images")) >= 2
    made = [line for line in output if line.startswith("out/images/")]
    assert len(made) == 2
    assert all(read_image(photos.parent / line).any() for line in made)


@pytest.mark.slow
def test_json_loop(photos):
    (photos / "rocket.jpg").write_bytes(b"no image")  # each prompt loads the model again
    output, _ = run_script("json-loop.sh", photos)
    document = json.loads((photos.parent / "out/hints.json").read_text())
    assert [Path(hint["image"]).name for hint in document["hints"]] == ["cat.jpg"]
    assert [Path(failure["image"]).name for failure in document["failed"]] == ["rocket.jpg"]
    (line,) = output
    assert json.loads(read_metadata(photos.parent / line)["cnctl"])["prompt"] == "cat"


@pytest.mark.parametrize("script", sorted(EXAMPLES.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_short_and_safe(script):
    lines = script.read_text().splitlines()
    assert len(lines) <= 30
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    assert sum(line.startswith("#") for line in lines) >= 4
    assert os.access(script, os.X_OK) or sys.platform == "win32"


@pytest.mark.parametrize("photo", sorted((EXAMPLES / "images").glob("*.jpg")), ids=lambda p: p.name)
def test_each_photograph_states_its_licence(photo):
    lines = (EXAMPLES / "images/README.md").read_text().splitlines()
    (row,) = [line for line in lines if f"`{photo.name}`" in line]
    assert row.split("|")[4].strip() in ("CC0", "Public domain")
    assert max(read_image(photo).shape[:2]) <= 512


def test_hints_are_what_their_script_draws():
    draw = load(EXAMPLES / "hints/draw.py")
    drawn = draw.draw_all()
    hints = {f"hints/{path.stem}" for path in (EXAMPLES / "hints").glob("*.png")}
    assert set(drawn) == hints | {"images/bird"}
    for name, picture in drawn.items():
        lying = read_hint(EXAMPLES / f"{name}.png", channels=picture.shape[2])
        np.testing.assert_array_equal(lying, picture)


def test_the_sheet_of_the_convergence_experiment_shows_the_right_previews(tmp_path):
    """Each preview is drawn in a shade of its step, its columns a little apart."""
    script = load(EXAMPLES / "experiments/convergence.py")

    def run(name: str, steps: list[int], converged: int | None):
        for step in steps:
            cells = [np.full((128, 128, 3), step + column, np.uint8) for column in range(3)]
            path = tmp_path / name / f"previews/step-{step:08d}.png"
            write_image(path, arrange([cells] * 4))
        return script.Learnt(tmp_path / name, dict.fromkeys(steps, 0.5), converged)

    control = run("a", [0, 50, 100, 150, 200], converged=100)
    concat = run("b", [0, 50, 200], converged=None)
    sheet = script.draw_sheet(control, concat, "input-concat")
    for row in range(3):
        shades = [sheet[68 + row * 132, 68 + column * 132, 0] for column in range(6)]
        assert shades == [0, 0 + 1, 50 + 1, 100 + 1, 200 + 1, 200 + 1]
    drawn = script.draw_curves({"controlnet": control, "input-concat": concat})
    assert "controlnet converged, 100" in drawn
    assert "input-concat converged" not in drawn


def test_claims_have_t_intervals_over_seeds_and_paired_differences():
    """2.776 is Student's t of 4 degrees of freedom at 97.5 %, from a printed table."""
    script = load(EXAMPLES / "experiments/claims.py")
    values = [0.5, 0.7, 0.6, 0.9, 0.8]
    half = 2.776 * np.std(values, ddof=1) / np.sqrt(5)
    found = script.interval(values)
    assert (found.low, found.high) == pytest.approx((0.7 - half, 0.7 + half), abs=1e-3)
    table = {"F1": {"plain": values, "better": [value + 0.1 for value in values]}}
    *_, difference = script.lines(table)
    assert difference.split() == ["better", "-", "plain", "0.100", "0.100", "to", "0.100"]


def test_the_links_of_claims_start_again_and_nothing_else():
    script = load(EXAMPLES / "experiments/arms.py")
    untrained = {"link.weight": torch.zeros(64, 64, 1, 1), "copy.weight": torch.ones(9, 9)}
    trained = {f"{layer}.bias": torch.ones(64) for layer in ("link", "copy")}
    trained |= {name: tensor + 5 for name, tensor in untrained.items()}
    links = script.link_names(untrained)
    script.reset(trained, links, seed=None)
    assert [float(tensor.mean()) for tensor in trained.values()] == [0, 1, 0, 6]
    script.reset(trained, links, seed=0)
    assert trained["link.weight"].std() == pytest.approx(1 / 8, rel=0.05)
    assert float(trained["link.bias"].mean()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["start", "middle", "dropout", "unlock"])
def test_claims_are_measured_on_any_base(name, random_base, tmp_path, monkeypatch, capsys):
    script = load(EXAMPLES / "experiments/claims.py")
    monkeypatch.setattr("examples.experiments.arms.DENOISING_STEPS", 2)
    monkeypatch.setattr("examples.experiments.arms.SCENES", "scenes:20")
    asked = f"{name} --seeds 1 --steps 5 --batch-size 2 --scenes 2"
    own = ["--base", str(random_base), "--copy", "", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["claims.py", *asked.split(), *own])
    script.main()
    printed = capsys.readouterr().out
    first, *others = [arm.name for arm in script.CLAIMS[name].arms]
    assert all(f"\n{arm} - {first} " in printed for arm in others)
    table = json.loads((tmp_path / f"{name}.json").read_text())
    assert {*table} == {*script.CLAIMS[name].measures}
    if name == "start":
        zero, gaussian = (losses[0] for losses in table["loss of the first step"].values())
        assert gaussian > 1.02 * zero
    script.main()
    assert capsys.readouterr().out == printed, "what is there is read"


def test_toys_have_their_hints_and_conditions():
    lines = (EXAMPLES / "toys.sh").read_text().partition("<<END\n")[2].splitlines()[:-1]
    hints = [line.partition(":")[0] for line in lines]
    assert set(hints) <= {path.stem for path in (EXAMPLES / "hints").glob("*.png")}
    assert {hint.partition("-")[0] for hint in hints} <= set(condition_names())
