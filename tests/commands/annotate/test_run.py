"""Annotating one image, trees and data sets; hints are compared with cv2 called directly."""

import hashlib
import io
import json
import os
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import cnctl.commands.annotate.run as command
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.result import AnnotatedHint, AnnotateResult, Sheet
from cnctl.commands.shared.events import FailedImage, Note, Stage, ignore
from cnctl.commands.shared.report.sheets import GAP
from cnctl.errors import CnctlError, MissingError, OutputError
from cnctl.hints.ready import read_ready
from cnctl.images import read_hint, read_image, read_metadata, read_picture
from cnctl.plugin import BatchDetector, Condition, GroundTruth, Option, WeightFile
from cnctl.registry import get_condition

calls: list[tuple[str, int]] = []


def _shade(device):
    def detect(image, strength):
        calls.append(("shade", strength))
        return (image[:, :, 0] // strength).astype(np.uint8)

    return detect


def _six(device):
    return lambda image: np.concatenate([image, 255 - image], axis=2)


def _bright(device):
    """Finds something in bright images only."""
    return lambda image: image if image.mean() > 100 else None


def _greedy(device):
    raise MissingError("greedy has no weights", hint="cnctl models pull greedy")


def _together(device):
    """Bright images only; stumbles over three at once, and tells how many it has seen each time."""

    def look(images, strength):
        calls.append(("together", len(images)))
        if len(images) == 3:
            raise RuntimeError("three are a crowd")
        return [image // strength if image.mean() > 100 else None for image in images]

    return BatchDetector(look)


STRANGERS = [
    Condition(
        name="shade",
        summary="One channel",
        load_detector=_shade,
        options={"strength": Option(2, minimum=1, maximum=9)},
        hint_channels=1,
        training_options=lambda rng: {"strength": int(rng.integers(1, 10))},
    ),
    Condition(name="six", summary="Six channels", load_detector=_six, hint_channels=6),
    Condition(name="bright", summary="Picky", load_detector=_bright),
    Condition(
        name="together",
        summary="Many at once",
        load_detector=_together,
        options={"strength": Option(2)},
    ),
    Condition(name="greedy", summary="Without weights", load_detector=_greedy),
]


@pytest.fixture(autouse=True)
def _strangers(monkeypatch):
    """Strangers' conditions beside canny, as values; finding them is the registry's test."""
    known = {condition.name: condition for condition in [*STRANGERS, get_condition("canny")]}
    monkeypatch.setattr("cnctl.commands.annotate.runs.get_condition", known.__getitem__)
    calls.clear()


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A tree of three small photographs below the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["a.png", "sub/b.jpg", "sub/deep/c.webp"]):
        _paint(Path("photos", name), shade=120 + number)
    return Path("photos")


def _paint(path: Path, shade: int = 130) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((48, 64, 3), shade, np.uint8)
    image[10:30, 20:50] = (250, 240, 20)
    Image.fromarray(image).save(path)
    return path


def annotate(conditions, inputs, *, on_event=ignore, **asked) -> AnnotateResult:
    request = AnnotateRequest(conditions=conditions, inputs=inputs, **asked)
    return command.annotate(request, on_event=on_event)


def _tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_hint_is_what_the_detector_says_at_working_size(photos):
    result = annotate("canny", ["photos/a.png"], resolution=96, options=["low_threshold=50"])
    assert [hint.path for hint in result.hints] == [Path("out/a-canny.png")]
    enlarged = cv2.resize(read_image("photos/a.png"), (128, 96), interpolation=cv2.INTER_CUBIC)
    expected = cv2.Canny(enlarged, 50, 200)
    assert expected.any()
    assert np.array_equal(read_hint("out/a-canny.png", channels=1)[:, :, 0], expected)


def test_the_tree_is_kept(photos):
    annotate("canny", [photos], out="hints", resolution=32)
    assert _tree(Path("hints")) == ["a-canny.png", "sub/b-canny.png", "sub/deep/c-canny.png"]


def test_several_conditions_decode_each_image_once(photos, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "cnctl.commands.annotate.inputs.read_picture",
        lambda data, name: opened.append(name) or read_picture(data, name=name),
    )
    options = ["shade.strength=3", "canny.high_threshold=90"]
    result = annotate(["canny", "shade", "six"], [photos], resolution=32, options=options)
    assert len(result.hints) == 9
    assert len(opened) == 3
    assert Path("out/sub/b-six.npz").is_file()
    assert read_hint("out/sub/b-six.npz", channels=6).shape == (32, 40, 6)
    assert {value for _, value in calls} == {3}


def test_options_without_an_owner_are_refused(photos):
    with pytest.raises(CnctlError, match="does not name its condition") as caught:
        annotate(["canny", "shade"], [photos], options=["strength=3"])
    assert caught.value.hint == "write canny.strength=3"


def test_a_detector_that_changes_the_folder_moves_no_output(photos, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def load(device):
        os.chdir(elsewhere)

        def detect(image):
            os.chdir(elsewhere)
            return image

        return detect

    mover = Condition(name="mover", summary="", load_detector=load)
    monkeypatch.setattr("cnctl.commands.annotate.runs.get_condition", lambda name: mover)
    annotate("mover", [photos], resolution=32)
    assert _tree(photos.absolute().parent / "out") == [
        "a-mover.png",
        "sub/b-mover.png",
        "sub/deep/c-mover.png",
    ]
    assert not any(elsewhere.iterdir())


def test_a_second_run_makes_only_what_is_missing(photos):
    first = annotate("shade", [photos], resolution=32)
    assert (len(first.hints), first.skipped, len(calls)) == (3, 0, 3)
    Path("out/sub/b-shade.png").unlink()
    second = annotate("shade", [photos], resolution=32)
    assert (len(second.hints), second.skipped, len(calls)) == (3, 2, 4)
    assert {hint.path for hint in second.hints} == {hint.path for hint in first.hints}


def test_a_hint_made_otherwise_is_not_taken_for_done(photos):
    annotate("shade", [photos], resolution=32)
    for what, changed in [
        ("resolution", {"resolution": 40}),
        ("set of options", {"resolution": 32, "options": ["strength=5"]}),
    ]:
        with pytest.raises(OutputError, match=f"exists already and was made with another {what}"):
            annotate("shade", [photos], **changed)
    annotate("shade", [photos], resolution=40, overwrite=True)
    assert read_hint("out/a-shade.png", channels=1).shape == (40, 56, 1)


def test_a_hint_of_another_image_is_not_taken_for_done(photos):
    _paint(Path("other/a.png"), shade=60)
    annotate("canny", ["photos/a.png"], resolution=32)
    kept = Path("out/a-canny.png").read_bytes()
    with pytest.raises(OutputError, match=r"a-canny\.png exists already .* another image"):
        annotate("canny", ["other/a.png"], resolution=32)
    Path("other/a.png").replace("photos/a.png")  # the same name, another picture
    with pytest.raises(OutputError, match=r"a-canny\.png exists already .* another image"):
        annotate("canny", ["photos/a.png"], resolution=32)
    assert Path("out/a-canny.png").read_bytes() == kept
    result = annotate("canny", ["photos/a.png"], resolution=32, overwrite=True)
    sha256 = hashlib.sha256(Path("photos/a.png").read_bytes()).hexdigest()
    assert result.hints[0].record["source_sha256"] == sha256
    assert json.loads(read_metadata("out/a-canny.png")["cnctl"])["source_sha256"] == sha256


def test_another_image_on_standard_input_is_not_taken_for_done(photos, monkeypatch):
    def run(path: Path) -> AnnotateResult:
        stream = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
        monkeypatch.setattr(sys, "stdin", stream)
        return annotate("canny", ["-"], resolution=32)

    assert [run(photos / "a.png").skipped for _ in range(2)] == [0, 1]
    with pytest.raises(OutputError, match=r"stdin-canny\.png .* another image"):
        run(_paint(Path("other.png"), shade=60))


@pytest.mark.parametrize("foreign", [b"", b"mine"])
def test_a_foreign_file_is_never_taken_for_a_hint(photos, foreign):
    Path("out").mkdir()
    Path("out/a-canny.png").write_bytes(foreign)
    with pytest.raises(OutputError, match="exists already"):
        annotate("canny", [photos])
    assert Path("out/a-canny.png").read_bytes() == foreign


def test_an_interrupted_run_is_finished_by_repeating_it(photos, monkeypatch):
    interrupted = 0
    real = os.fsync

    def interrupt(descriptor):
        nonlocal interrupted
        interrupted += 1
        if interrupted == 2:
            raise KeyboardInterrupt
        real(descriptor)

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        annotate("canny", [photos], resolution=32)
    assert _tree(Path("out")) == ["a-canny.png"], "no half file, no temporary one"
    result = annotate("canny", [photos], resolution=32)
    assert (len(result.hints), result.skipped) == (3, 1)


def test_a_failed_image_is_reported_and_the_others_continue(photos):
    Path("photos/bad.png").write_bytes(b"<html>")
    Path("photos/sliver.png").write_bytes(b"")
    Image.new("RGB", (8000, 20)).save("photos/sliver.png")
    events = []
    result = annotate("canny", [photos], resolution=512, on_event=events.append)
    assert len(result.hints) == 3
    assert [event for event in events if isinstance(event, FailedImage)] == result.failed
    assert [failure.image.name for failure in result.failed] == ["bad.png", "sliver.png"]
    assert result.failed[0].error.startswith("photos/bad.png is an HTML page")
    assert result.failed[1].error.startswith("photos/sliver.png: a 8000 x 20 image would become")
    steps = [event for event in events if isinstance(event, Stage)]
    assert steps == [Stage("annotating", number, 5) for number in range(6)]
    assert {"photos/bad.png", "photos/sliver.png", ""} <= {step.item for step in steps}


def test_a_name_that_is_too_long_fails_alone(photos):
    _paint(photos / f"{'x' * 248}.png")
    result = annotate("canny", [photos], resolution=32)
    assert len(result.hints) == 3
    assert "file name too long" in result.failed[0].error


def test_a_hint_that_another_run_made_meanwhile_is_taken(photos, monkeypatch):
    detect = STRANGERS[1].load_detector("cpu")

    def slow(image):
        if len(calls) < 1:  # the other run starts now and is done first
            calls.append(("six", 0))
            annotate("six", [photos], resolution=32)
        return detect(image)

    racing = replace(STRANGERS[1], load_detector=lambda device: slow)
    monkeypatch.setattr("cnctl.commands.annotate.runs.get_condition", lambda name: racing)
    assert len(annotate("six", [photos], resolution=32).hints) == 3


def test_an_image_in_which_nothing_is_found_fails_alone(photos):
    _paint(Path("photos/dark.png"), shade=0)
    result = annotate("bright", [photos], resolution=32)
    assert [failure.error for failure in result.failed] == [
        "bright found nothing in photos/dark.png"
    ]
    assert not Path("out/dark-bright.png").exists()


def test_an_empty_hint_is_written_and_said(photos):
    Image.new("RGB", (64, 48), "red").save(photos / "flat.png")
    told: list[object] = []
    annotate("canny", [photos], resolution=32, on_event=told.append)
    notes = [event.text for event in told if isinstance(event, Note)]
    assert notes == ["photos/flat.png: the hint of canny is empty; try other options"]
    assert not read_hint("out/flat-canny.png", channels=1).any()


def test_one_image_raises_its_own_error(photos):
    Path("bad.png").write_bytes(b"")
    with pytest.raises(CnctlError, match=r"bad\.png is empty"):
        annotate("canny", ["bad.png"])
    assert not Path("out").exists()


def test_missing_weights_end_the_run(photos):
    with pytest.raises(MissingError, match="greedy has no weights"):
        annotate("greedy", [photos])


def test_a_condition_that_cannot_be_used_leaves_the_others_and_no_sheet(photos):
    events = []
    result = annotate(["greedy", "canny"], ["photos"], compared=True, on_event=events.append)
    assert len(result.hints) == 3
    assert result.sheets == []
    (failure,) = result.failed_conditions
    assert failure.condition == "greedy"
    assert failure.error == "greedy has no weights; cnctl models pull greedy"
    assert events[0] == failure
    with pytest.raises(CnctlError, match="one file for 2 hints"):
        annotate(["greedy", "canny"], ["photos/a.png"], out="x.png")


def test_what_would_collide_is_refused_before_work(photos):
    _paint(Path("photos/a.jpg"))
    with pytest.raises(CnctlError, match=r"photos/a\.(jpg|png) and .* both become out/a-canny.png"):
        annotate("canny", [photos])
    assert not Path("out").exists()


def test_output_inside_the_input_is_not_input(photos):
    for _ in range(2):
        result = annotate("canny", [photos], out="photos/hints", resolution=32)
        assert len(result.hints) == 3
    result = annotate("shade", ["."], out="photos/hints", resolution=32)
    assert len(result.hints) == 3


def test_output_beside_the_input_is_not_input(photos):
    for _ in range(2):
        assert len(annotate("canny", [photos.absolute()], out=photos, resolution=32).hints) == 3
    assert "a-canny.png" in _tree(photos)
    assert "a-canny-canny.png" not in _tree(photos)


def test_hints_of_other_runs_are_not_input_unless_they_are_named(photos):
    annotate("canny", [photos], out=photos, resolution=32, compared=True)
    for path in ("photos/b-canny.png", "photos/own.canny.png"):
        _paint(Path(path))  # of names like a hint's, and not one
    notes: list[str] = []
    found = {"out": "again", "resolution": 32, "on_event": lambda e: notes.append(str(e))}
    for folder in (photos, "photos/**"):
        images = {str(hint.image) for hint in annotate("bright", [folder], **found).hints}
        assert {"photos/a.png", "photos/b-canny.png", "photos/own.canny.png"} < images
        assert not {"photos/a-canny.png", "photos/a-compare.png", "photos/sub/b-canny.png"} & images
    assert any("6 hints that annotate wrote: not read as images" in note for note in notes)
    (hint,) = annotate("canny", ["photos/a-canny.png"], out="named", resolution=32).hints
    assert hint.path == Path("named/a-canny-canny.png")


def test_one_file(photos):
    result = annotate("canny", ["photos/a.png"], out="new/hint.png", resolution=32)
    assert result.hints[0].path == Path("new/hint.png")
    with pytest.raises(OutputError, match=r"new/hint.png exists already"):
        annotate("canny", ["photos/a.png"], out="new/hint.png", resolution=32)
    annotate("canny", ["photos/a.png"], out="new/hint.png", resolution=48, overwrite=True)
    assert read_hint("new/hint.png", channels=3).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("condition", "inputs", "out", "expected"),
    [
        ("canny", ["photos"], "hint.png", "one file for 3 hints"),
        (["canny", "shade"], ["photos/a.png"], "hint.png", "one file for 2 hints"),
        (["canny", "shade"], ["photos/a.png"], "-", "one file for 2 hints"),
        ("canny", ["photos/a.png"], "hint.jpg", r"stored as \.png"),
        ("six", ["photos/a.png"], "hint.png", r"stored as \.npz"),
        ("canny", ["photos/a.png"], "photos/a.png", "replace its own image"),
        ("canny", [], "out", "no image"),
        ([], ["photos"], "out", "no condition"),
    ],
)
def test_what_makes_no_sense_is_refused(photos, condition, inputs, out, expected):
    with pytest.raises(CnctlError, match=expected):
        annotate(condition, inputs, out=out, overwrite=True)


def test_resolution_comes_from_the_settings_then_the_condition(photos, monkeypatch):
    known = replace(STRANGERS[1], train=replace(STRANGERS[1].train, resolution=24))
    monkeypatch.setattr("cnctl.commands.annotate.runs.get_condition", lambda name: known)
    assert annotate("six", ["photos/a.png"]).hints[0].record["resolution"] == 24
    monkeypatch.setenv("CNCTL_ANNOTATE_RESOLUTION", "40")
    assert annotate("six", ["photos/a.png"], out="b").hints[0].record["resolution"] == 40
    with pytest.raises(CnctlError, match="--resolution 4 is too small"):
        annotate("six", ["photos/a.png"], out="c", resolution=4)


def test_stdin_and_stdout(photos, monkeypatch):
    data = Path("photos/a.png").read_bytes()
    for name in ("stdin", "stdout"):
        stream = io.TextIOWrapper(io.BytesIO(data if name == "stdin" else b""))
        monkeypatch.setattr(sys, name, stream)
    annotate("canny", ["-"], out="-", resolution=48)
    hint = Image.open(io.BytesIO(sys.stdout.buffer.getvalue()))
    assert (hint.format, hint.size) == ("PNG", (64, 48))


def test_a_terminal_gets_no_png(photos, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(CnctlError, match="not text that a terminal can show"):
        annotate("canny", ["photos/a.png"], out="-")


# --- several images at once ---------------------------------------------------------------------


def test_images_of_one_size_are_seen_together(photos):
    for name in ("d.png", "e.png"):
        _paint(photos / name)
    Image.new("RGB", (64, 64), "white").save(photos / "square.png")
    alone = annotate("together", [photos], out="alone", resolution=16)
    assert calls == [("together", 1)] * 6
    calls.clear()
    made = annotate("together", [photos], out="many", resolution=16, batch_size=4)
    assert [count for _, count in calls] == [3, 1, 1, 1, 1, 2]  # three failed, and were seen alone
    assert made.images == alone.images == 6
    for name in _tree(Path("alone")):
        one, other = (read_hint(Path(folder, name), channels=3) for folder in ("alone", "many"))
        np.testing.assert_array_equal(one, other)


def test_a_bad_image_among_several_fails_alone(photos):
    Image.new("RGB", (64, 48), "black").save(photos / "dark.png")
    (photos / "broken.png").write_bytes(b"no picture")
    made = annotate("together", [photos], out="many", resolution=16, batch_size=9)
    assert sorted(failure.image.name for failure in made.failed) == ["broken.png", "dark.png"]
    assert len(made.hints) == 3
    calls.clear()
    assert annotate("together", [photos], out="many", resolution=16, batch_size=2).skipped == 3
    assert calls == [("together", 1)], "what is there already is not looked at"


def test_networks_run_on_the_device_that_every_command_picks(photos, monkeypatch):
    """A condition without weights stays on the CPU, so that it need not wait for torch."""
    devices = []

    def load(device, files=None):
        devices.append(device)
        return lambda image: image

    net = {"net": WeightFile(repo="someone/nets", filename="net.pth")}
    known = {
        "network": Condition(name="network", summary="", load_detector=load, files=net),
        "filter": Condition(name="filter", summary="", load_detector=load),
    }
    monkeypatch.setattr("cnctl.commands.annotate.runs.get_condition", known.__getitem__)
    monkeypatch.setattr("cnctl.models.device.pick_device", lambda name: name or "fastest")
    for name, device in [
        ("network", None),
        ("network", "cpu"),
        ("filter", None),
        ("filter", "mps"),
    ]:
        annotate(name, ["photos/a.png"], out=f"{name}-{device}", resolution=32, device=device)
    assert devices == ["fastest", "cpu", "cpu", "mps"]


def test_an_unknown_device_is_refused(photos):
    with pytest.raises(CnctlError, match="unknown device 'gpu'"):
        annotate("shade", ["photos/a.png"], resolution=32, device="gpu")


# --- parts of a data set ------------------------------------------------------------------------


def test_only_the_largest_images_and_of_these_a_sample(photos):
    for number in range(6):
        Image.new("RGB", (64 + number, 48), "white").save(photos / f"more{number}.png")
    made = annotate("shade", [photos], out="a", resolution=16, largest=4)
    assert sorted(hint.image.stem for hint in made.hints) == [f"more{n}" for n in range(2, 6)]
    made = annotate("shade", [photos], out="b", resolution=16, largest=4, sample=2, seed=5)
    assert len(made.hints) == 2
    assert {hint.image.stem for hint in made.hints} < {f"more{n}" for n in range(2, 6)}
    with pytest.raises(CnctlError, match="--sample 10 of 9 images"):
        annotate("shade", [photos], out="c", sample=10)


# --- comparisons --------------------------------------------------------------------------------


def test_a_sheet_shows_the_image_and_its_hints_as_they_lie_on_disk(photos):
    events = []
    result = annotate(
        ["canny", "shade"], [photos], resolution=48, compared=True, on_event=events.append
    )
    assert [sheet.path.name for sheet in result.sheets] == [
        "a-compare.png",
        "b-compare.png",
        "c-compare.png",
    ]
    written = [event.path for event in events if isinstance(event, AnnotatedHint | Sheet)]
    assert written == [p for h, s in zip(_pairs_of(result), result.sheets, strict=True)
                    for p in (*h, s.path)]  # fmt: skip
    sheet = read_image("out/a-compare.png")
    cells = [sheet[GAP : GAP + 48, x : x + 64] for x in (GAP, 2 * GAP + 64, 3 * GAP + 128)]
    assert np.array_equal(cells[0], read_image("photos/a.png"))
    for cell, name in zip(cells[1:], ["canny", "shade"], strict=True):
        assert np.array_equal(cell, read_hint(f"out/a-{name}.png", channels=3))


def _pairs_of(result):
    paths = [hint.path for hint in result.hints]
    return [paths[i : i + 2] for i in range(0, len(paths), 2)]


def test_a_sheet_is_whole_or_absent_and_made_once(photos):
    _paint(Path("photos/dark.png"), shade=0)
    run = {"resolution": 32, "compared": True}
    result = annotate(["canny", "bright"], [photos], **run)
    assert not Path("out/dark-compare.png").exists(), "one of its hints is missing"
    assert len(result.sheets) == 3
    again = annotate(["canny", "bright"], [photos], **run)
    assert [sheet.skipped for sheet in again.sheets] == [True] * 3
    with pytest.raises(OutputError, match=r"a-compare\.png exists already"):
        annotate(["canny", "shade"], [photos], **run)
    for _ in range(2):  # a sheet is no input itself
        assert len(annotate(["canny"], [photos], out=photos, **run).sheets) == 4


@pytest.mark.parametrize("where", [{"out": "x.png"}, {"out": "-"}])
def test_sheets_need_a_folder_of_files(photos, where):
    with pytest.raises(CnctlError, match="--compare works with image files"):
        annotate("canny", ["photos/a.png"], compared=True, **where)


# --- ground truth -------------------------------------------------------------------------------


def _state(values, sizes, strength):
    """Numbers 0 to 9, ten times as bright; other shapes are no map."""
    return (values * 10).astype(np.uint8) if values.ndim == 2 else None


STATED = replace(
    STRANGERS[0],
    name="stated",
    load_detector=_greedy,
    ground_truth=GroundTruth(name="{stem}_map.npy", read=_state),
)
STRANGERS.append(STATED)


def test_hints_are_read_where_a_data_set_knows_them(photos):
    """Nothing is detected, so no weights are missed; the map is fitted without new values."""
    for stem, height in (("a", 48), ("sub/b", 96)):
        path = Path("maps", f"{stem}_map.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.arange(height)[:, None] // (height // 8) + np.zeros(height * 4 // 3, int))
    result = annotate("stated", [photos], out="set", resolution=24, ground_truth="maps")
    expected = np.repeat(np.arange(8) * 10, 3)[:, None] + np.zeros(32, int)
    for name in ("a", "sub/b"):
        hint = read_hint(f"set/{name}-stated.png", channels=1)
        assert np.array_equal(hint[..., 0], expected)
    assert [hint.record["ground_truth"] for hint in result.hints] == ["a_map.npy", "b_map.npy"]
    np.save("maps/a_map.npy", np.zeros((48, 64), int))
    with pytest.raises(OutputError, match=r"a-stated\.png exists already .* another map"):
        annotate("stated", ["photos/a.png"], out="set", resolution=24, ground_truth="maps")
    assert [failure.error for failure in result.failed] == [
        "photos/sub/deep/c.webp: maps/sub/deep/c_map.npy: no such file"
    ]


def test_a_map_belongs_to_its_image_whatever_the_rounding_of_the_hint(photos):
    """64 x 48 pixels, a third wider than high, become 24 x 16: half as wide again."""
    Path("maps").mkdir()
    np.save("maps/a_map.npy", np.full((96, 128), 7))
    annotate("stated", ["photos/a.png"], ground_truth="maps", resolution=16)
    assert (read_hint("out/a-stated.png", channels=1) == np.full((16, 24, 1), 70)).all()


def test_a_ready_hint_may_be_ground_truth(photos):
    np.save("a_map.npy", np.full((8, 8), 7))
    assert (read_ready(STATED, Path("a_map.npy")) == 70).all()
    _paint(Path("a_map.npy.png"))
    assert read_ready(replace(STATED, hint_channels=3), Path("a_map.npy.png")).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros((4, 4, 4)), r"maps/a_map.npy is not ground truth of stated"),
        (np.zeros((48, 90)), r"maps/a_map.npy is 90 x 48, not the shape of its image"),
        (np.array([object()]), r"maps/a_map.npy is damaged"),
    ],
)
def test_a_map_that_does_not_fit_is_told(photos, values, error):
    Path("maps").mkdir()
    np.save("maps/a_map.npy", values)
    with pytest.raises(CnctlError, match=error):
        annotate("stated", ["photos/a.png"], ground_truth="maps")


def test_ground_truth_needs_a_folder_and_a_condition_that_reads_it(photos):
    with pytest.raises(CnctlError, match="--ground-truth nowhere is not a folder"):
        annotate("stated", [photos], ground_truth="nowhere")
    with pytest.raises(CnctlError, match="canny does not read ground truth"):
        annotate("canny", [photos], ground_truth="photos")


def test_flags_of_data_sets_are_not_ignored_without_them(photos: Path) -> None:
    with pytest.raises(CnctlError, match="--workers belongs to --dataset"):
        annotate("canny", [photos], workers=2)


# --- lists, tar files, tables and videos ----------------------------------------------------------


def _video(path: Path, frames: int) -> list[np.ndarray]:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    capture = cv2.VideoCapture(str(path))
    return [capture.read()[1] for _ in range(frames)]


def test_hints_of_what_lists_tables_tars_and_videos_hold(photos, tmp_path):
    import pyarrow
    import pyarrow.parquet

    data = Path("photos/a.png").read_bytes()
    Path("list.csv").write_text("file\nphotos/sub/b.jpg\nphotos/gone.png\n")
    table = pyarrow.table({"image": [data]})
    pyarrow.parquet.write_table(table, "t.parquet")
    with tarfile.open("s.tar", "w") as tar:
        tar.add("photos/a.png", "x/1.png")
    frames = _video(Path("v.avi"), 4)
    inputs = ["list.csv", "t.parquet", "s.tar", "v.avi", "photos/sub/deep"]
    result = annotate("shade", inputs, every=3, resolution=48)
    assert [str(hint.path) for hint in result.hints] == [
        "out/photos/sub/b-shade.png",
        "out/t-parquet-row-0-of-group-0-shade.png",
        "out/x/1-shade.png",
        "out/v-avi-frame-0-shade.png",
        "out/v-avi-frame-3-shade.png",
        "out/c-shade.png",
    ]
    assert [failure.error for failure in result.failed] == ["photos/gone.png: no such file"]
    hint = read_hint("out/v-avi-frame-3-shade.png", channels=1)
    assert np.array_equal(hint, frames[3][..., 2:] // 2)
    assert np.array_equal(
        read_hint("out/x/1-shade.png", channels=1), read_image(data)[..., :1] // 2
    )
    assert annotate("shade", inputs, every=3, resolution=48).skipped == 6
    with pytest.raises(CnctlError, match=r"v\.avi is a video"):
        annotate("shade", ["v.avi"])
