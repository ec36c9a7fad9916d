"""Evaluation on the embedded base, whose control works: figures against ones made here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from cnctl.commands.evaluate.cases import open_examples
from cnctl.commands.evaluate.request import EvaluateRequest
from cnctl.commands.evaluate.result import Evaluation
from cnctl.commands.evaluate.run import evaluate
from cnctl.commands.evaluate.sets import names_of_sets
from cnctl.commands.shared import perceptual
from cnctl.errors import CnctlError, OutputError
from cnctl.hints.metrics import edge_f1
from cnctl.images import write_image
from cnctl.registry import get_condition

COUNT = 4
CANNY = str(Path("cnctl/tiny/weights/controls/canny").resolve())


def run(out: Path, **asked: Any) -> Evaluation:
    given = {"condition": "canny", "base": "tiny", "settings": {"steps": 3}, "out": out}
    return evaluate(EvaluateRequest(**(given | asked)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Two images of each of four scenes."""
    return run(tmp_path_factory.mktemp("made") / "e", data=f"scenes:{COUNT}", count=2)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).copy()


def edges(path: Path) -> np.ndarray:
    """Canny's edges, by cv2 alone."""
    return cv2.Canny(pixels(path), 100, 200)[..., None]


def test_fidelity_is_the_metric_between_hint_and_output(made: Evaluation) -> None:
    (one,) = made.sets
    by_case: dict[str, list[float]] = {}
    for picture in one.pictures:
        hint = next(case.hint for case in made.cases if case.id == picture.case)
        expected = edge_f1(pixels(hint)[..., :1], edges(picture.path))
        assert picture.fidelity == pytest.approx(expected)
        by_case.setdefault(picture.case, []).append(expected)
    assert [len(scores) for scores in by_case.values()] == [2] * COUNT
    interval = made.intervals["fidelity"]["tiny"]
    assert interval.mean == pytest.approx(np.mean([*by_case.values()]))
    assert interval.low < interval.mean < interval.high
    assert interval.low > made.intervals["chance"]["tiny"].mean, "control works"


def test_writes_all_that_it_found(made: Evaluation) -> None:
    document = json.loads((made.folder / "evaluation.json").read_text())
    interval = document["intervals"]["fidelity"]["tiny"]
    assert interval["mean"] == made.intervals["fidelity"]["tiny"].mean
    scores = [
        np.mean([output["fidelity"] for output in case["outputs"]]) for case in document["cases"]
    ]
    assert scores == sorted(scores, reverse=True), "the best come first"
    seeds = {output["seed"] for case in document["cases"] for output in case["outputs"]}
    assert seeds == {*range(2 * COUNT)}
    plot = (made.folder / "plot.svg").read_text()
    assert plot.count("<circle") == COUNT
    page = (made.folder / "report.html").read_text()
    assert page.count("<img") == COUNT
    assert "".join(made.lines()).count("edge_f1 of 4 hints, more is better") == 1


def test_scenes_are_such_as_no_training_has_seen(made: Evaluation) -> None:
    assert made.cases[0].title == "scene 10000000"


@pytest.mark.slow
def test_controlnets_are_compared_hint_by_hint(tmp_path: Path) -> None:
    tiny = Path("cnctl/tiny/weights/controls").resolve()
    weights = [str(tiny / "canny"), str(tiny / "hed")]
    both = run(tmp_path / "e", data="scenes:6", weights=weights)
    canny, hed = both.sets
    assert [picture.seed for picture in canny.pictures] == [p.seed for p in hed.pictures]
    pairs = zip(canny.pictures, hed.pictures, strict=True)
    changes = [after.fidelity - before.fidelity for before, after in pairs]
    difference = both.intervals["fidelity"]["hed - canny"]
    assert difference.mean == pytest.approx(np.mean(changes))
    assert min(changes) <= difference.low <= difference.high <= max(changes)
    assert "Where they differ most" in (both.folder / "report.html").read_text()


def test_sets_are_called_by_what_tells_their_paths_apart() -> None:
    assert names_of_sets(["runs/a", Path("/else/b")]) == ["a", "b"]
    assert names_of_sets(["runs/new/canny", "/x/old/canny"]) == ["new/canny", "old/canny"]
    assert names_of_sets(["canny", "runs/canny"]) == ["canny", "runs/canny"]


def test_a_run_goes_on_where_it_stopped(made: Evaluation, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "e")
    lost, *kept = sorted((tmp_path / "e/outputs/tiny").iterdir())
    before = [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    asked = {"data": f"scenes:{COUNT}", "count": 2}
    with pytest.raises(OutputError, match=r"evaluation\.json exists"):
        run(tmp_path / "e", **asked)
    again = run(tmp_path / "e", resume=True, **asked)
    assert lost.exists()
    assert [path.stat().st_mtime_ns for path in kept] == before
    # A batch of another size rounds otherwise, which may move an edge.
    found, wanted = (one.intervals["fidelity"]["tiny"].mean for one in (again, made))
    assert found == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("name", ["report.html", "jobs.jsonl", "hints/00000-scene-10000000.png"])
def test_files_of_others_are_never_replaced(made: Evaluation, tmp_path: Path, name: str) -> None:
    assert (made.folder / name).is_file()
    theirs = tmp_path / "e" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(OutputError, match=f"{theirs.name} exists already"):
        run(tmp_path / "e", data="scenes:1")
    assert theirs.read_bytes() == b"theirs"


def test_one_run_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    script = "import fcntl; f = open('.lock', 'a'); fcntl.lockf(f, fcntl.LOCK_EX)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; print(flush=True); input()"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(OutputError, match="is in use by another run"):
            run(tmp_path, data="scenes:1")
        other.communicate(b"\n")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_images_of_generate_name_their_own_hints(made: Evaluation, tmp_path: Path) -> None:
    for folder in (made.folder / "hints", made.folder / "outputs/tiny"):
        shutil.copytree(folder, tmp_path / "images", dirs_exist_ok=True)
    found = run(tmp_path / "e", outputs=[tmp_path / "images"])
    assert found.intervals["fidelity"]["images"] == made.intervals["fidelity"]["tiny"]
    assert {case.prompt for case in found.cases} == {case.prompt for case in made.cases}


@pytest.mark.parametrize("size", [(128, 128), (192, 128), (96, 160)])
def test_a_photograph_obeys_its_own_hint(size: tuple[int, int], tmp_path: Path) -> None:
    """Outputs that are called as the examples are: here they are the examples."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(small).resize(size, 0).save(tmp_path / f"photos/{name}.png")
    (tmp_path / "photos/bad.png").write_text("no image")
    photos = tmp_path / "photos"
    found = run(tmp_path / "e", data=str(photos), outputs=[photos])
    interval = found.intervals["fidelity"]["photos"]
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)
    assert found.intervals["chance"]["photos"].mean < 1
    assert [*found.failed] == ["bad.png"]
    assert "is a text file" in found.failed["bad.png"]


def test_outputs_of_another_aspect_are_said(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for folder, size in [("photos", (192, 128)), ("wide", (384, 256)), ("tall", (128, 192))]:
        (tmp_path / folder).mkdir()
        Image.fromarray(small).resize(size, 0).save(tmp_path / folder / "a.png")
    notes: list[str] = []
    request = EvaluateRequest(
        condition="canny",
        data=str(tmp_path / "photos"),
        outputs=[tmp_path / "wide", tmp_path / "tall"],
        out=tmp_path / "e",
        settings={"resolution": 128},
    )
    found = evaluate(request, on_event=lambda event: notes.append(getattr(event, "text", "")))
    assert [note for note in notes if "aspect" in note] == [
        "1 of 1 images of tall have another aspect ratio than their examples; they are cut to the "
        "square in their middle"
    ]
    means = found.intervals["fidelity"]
    assert means["wide"].mean > 0.9 > means["tall"].mean


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing to evaluate"),
        ({"outputs": ["a"], "weights": ["b"]}, "--control is for images that evaluate makes"),
        ({"outputs": ["a"], "ready_hint": True}, "--hint is for a folder of hints"),
        ({"data": "scenes:2", "ready_hint": True}, "--hint is for a folder of hints"),
        ({"data": "scenes:2", "weights": ["a", "a"]}, "one --control is named twice"),
        ({"outputs": ["a"], "metrics": ["fid"]}, "FID and KID compare with photographs"),
        ({"data": "scenes:2", "options": ["low=1"]}, "no option 'low'"),
        ({"outputs": ["nowhere"]}, "nowhere: no such file or folder"),
    ],
)
def test_bad_requests_are_one_sentence(tmp_path: Path, asked: dict, message: str) -> None:
    with pytest.raises(CnctlError, match=message):
        run(tmp_path / "e", **asked)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_controlnet_that_is_not_there_is_told_before_any_image_is_made(tmp_path: Path) -> None:
    with pytest.raises(CnctlError, match="absent"):
        run(tmp_path / "e", data="scenes:2", weights=[CANNY, str(tmp_path / "absent")])
    assert not list(tmp_path.rglob("*.png"))


def test_metrics_are_of_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FID of photographs to themselves is 0; CLIP is asked about each picture and its prompt.

    An empty prompt that is asked for is not replaced by the base's default.
    """

    def mean_colours(pictures: Any) -> Any:
        return pictures.float().mean(dim=(2, 3))

    def clip(picture: np.ndarray, prompt: str) -> float:
        return 5.0 + len(prompt)

    monkeypatch.setattr(perceptual, "open_inception", lambda device: mean_colours)
    monkeypatch.setattr(perceptual, "open_clip", lambda source, device: clip)
    for number in range(6):
        small = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((128, 128), 0).save(tmp_path / f"{number}.png")
    asked = {"metrics": ["clip", "fid", "kid"], "prompt": ""}
    found = run(tmp_path / "e", data=str(tmp_path), outputs=[tmp_path], **asked)
    assert found.intervals["clip"][tmp_path.name].mean == 5
    (one,) = found.sets
    assert one.fid == pytest.approx(0, abs=1e-3)
    assert one.kid is not None
    assert "FID of" in "".join(found.lines())


def test_a_folder_of_pairs_is_not_taken_for_photographs(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("images/0.png", "conditioning/0.png", "canny/0.png"):
        write_image(tmp_path / name, image)
    how = {"condition": get_condition("canny"), "ready": False, "side": 64}
    notes: list[str] = []
    dataset = open_examples(str(tmp_path), columns=None, note=notes.append, **how)
    assert (len(dataset), dataset.ready_hints) == (1, 1)
    assert notes == [f"{tmp_path}: not read: 1 more file, the first is canny/0.png"]
    mapped = open_examples(str(tmp_path), columns="hint=canny", note=notes.append, **how)
    assert mapped.row(0).hint == tmp_path / "canny/0.png"  # type: ignore[attr-defined]
    with pytest.raises(CnctlError, match="has no 'depth'"):
        open_examples(str(tmp_path), columns="hint=depth", note=notes.append, **how)
    (tmp_path / "metadata.jsonl").write_text('{"image": "images/0.png", "c": "canny/0.png"}')
    with pytest.raises(CnctlError, match="'c', which holds images, is not read"):
        open_examples(str(tmp_path), columns=None, note=notes.append, **how)


def test_a_config_for_each_controlnet(tmp_path: Path) -> None:
    asked = {"data": "scenes:2", "weights": [CANNY], "configs": ["a.json", "b.json"]}
    with pytest.raises(CnctlError, match="2 --config for 1 --control"):
        run(tmp_path / "e", **asked)
    (tmp_path / "other.json").write_text('{"block_out_channels": [8]}')
    with pytest.raises(CnctlError, match="the config says block_out_channels"):
        run(tmp_path / "e", **(asked | {"configs": [tmp_path / "other.json"]}))
