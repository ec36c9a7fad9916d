"""What rules measure, on pictures whose numbers are known, and which examples they leave out."""

import numpy as np
import pytest

from cnctl.curation.rules import general, of_hints
from cnctl.curation.rules.bounds import Bounds, parse_bounds
from cnctl.curation.rules.judge import judge_caption, judge_image, parse_rules
from cnctl.curation.rules.subject import Found, Subject
from cnctl.errors import CnctlError
from cnctl.plugin import Condition, Detection
from tests.curation.data_sets import make, paint, reasons, records


def subject(image: np.ndarray, caption: str = "") -> Subject:
    return Subject(image.shape[:2], image, caption)


def found(hint: np.ndarray, metric: str = "edge_f1", **data) -> Found:
    condition = Condition(name="x", summary="", load_detector=lambda device: None, metric=metric)
    return Found(condition, Detection(hint=hint, data=data))


def test_rules_on_images() -> None:
    red = np.zeros((50, 200, 3), np.uint8)
    red[..., 0] = 200
    assert general.short_side(subject(red)) == 50
    assert general.aspect(subject(red)) == 4
    assert general.colour(subject(red)) == 200
    assert general.colour(subject(red[..., [0, 0, 0]])) == 0
    assert general.sharpness(subject(red)) == 0
    assert general.caption_words(subject(red, "a red  house")) == 3


def test_a_short_caption_is_not_a_missing_one() -> None:
    grey = np.full((64, 64, 3), 99, np.uint8)
    bounds = {**parse_rules([]), "caption-words": Bounds(3, 4)}
    for text, failed in (("", ["no caption"]), ("a b", ["caption length"]), ("a b c", [])):
        assert [*judge_image(subject(grey, text), bounds).failed] == failed
        assert [*judge_caption(text, bounds).failed] == failed


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (40, 40), np.uint8).astype(np.int64)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = (
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    )
    image = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    assert general.sharpness(subject(image)) == pytest.approx(laplacian.var(), rel=1e-4)


def test_perceptual_hashes_of_like_images_are_near() -> None:
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    other = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    brighter = np.clip(image.astype(int) + 10, 0, 255).astype(np.uint8)
    hashes = [general.perceptual_hash(subject(each)) for each in (image, brighter, other)]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 3
    assert (hashes[0] ^ hashes[2]).bit_count() > 16


def test_rules_on_hints() -> None:
    edges = np.zeros((10, 20, 3), np.uint8)
    edges[:2] = 255
    assert of_hints.edge_density(found(edges)) == 0.2
    assert of_hints.edge_density(found(edges, "ssim")) is None
    assert of_hints.edge_density(found(edges // 2)) is None
    assert of_hints.contrast(found(edges)) == 255
    assert of_hints.contrast(found(edges[:2])) == 0
    assert of_hints.lines(found(edges, lines=[[0, 0, 1, 1]] * 3)) == 3
    assert of_hints.lines(found(edges)) is None
    depth = np.repeat(np.linspace(51, 102, 100).astype(np.uint8)[:, None, None], 3, axis=2)
    assert of_hints.depth_range(found(depth, "depth_rmse")) == pytest.approx(0.2, abs=0.01)


def test_key_points_are_those_of_the_most_complete_person() -> None:
    def person(seen: int) -> dict:
        return {"pose_keypoints_2d": [1.0, 2.0, 0.9] * seen + [0, 0, 0] * (18 - seen)}

    image = np.zeros((4, 4, 3), np.uint8)
    assert of_hints.key_points(found(image, people=[person(3), person(9)])) == 0.5
    assert of_hints.key_points(found(image, people=[])) == 0
    assert of_hints.key_points(found(image)) is None
    bounds = parse_rules([])["key-points"]
    assert not bounds.allow(5 / 18)
    assert bounds.allow(6 / 18)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("0.1..0.5", Bounds(0.1, 0.5)),
        ("3..", Bounds(3, None)),
        ("..4", Bounds(None, 4)),
        ("off", Bounds()),
    ],
)
def test_bounds_are_read(text: str, bounds: Bounds) -> None:
    assert parse_bounds(text, "--rule x") == bounds


@pytest.mark.parametrize(
    "text",
    [
        "x=1..",
        "aspect",
        "aspect=4",
        "aspect=a..b",
        "aspect=",
        "aspect=2..1",
        "duplicates=..9",
        "duplicates=1..",
        "aspect=nan..",
    ],
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(CnctlError, match="--rule"):
        parse_rules([text])


def test_bounds_leave_out_and_keep_all_keeps(photos) -> None:
    paint(photos / "g.png", 41, size=(72, 400))
    rules = ["short-side=70..", "aspect=..2", "duplicates=off"]
    make(photos, prompt="x", rules=rules)
    assert [name for name, reason in reasons("out").items() if reason] == ["g.png"]
    make(photos, prompt="x", rules=rules, out="all", keep_all=True)
    assert set(reasons("all").values()) == {None}
    assert [r["not_met"] for r in records("all") if r["name"] == "g.png"] == [["odd aspect"]]


def test_an_empty_prompt_may_be_asked_for(photos) -> None:
    (photos / "b.txt").unlink()
    make(photos, prompt="")
    assert set(reasons("out").values()) == {None}
