import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cnctl.data import check_dataset, open_dataset
from cnctl.images import read_hint, write_hint, write_image


def edges(image: np.ndarray, rng: object) -> np.ndarray | None:
    found = cv2.Canny(image, 100, 200)[..., None]
    return found if found.any() else None


def picture(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_each_fault_is_named_once_with_its_example(tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", picture(0))
    write_image(tmp_path / "again.png", picture(0))
    write_image(tmp_path / "wide.png", picture(1, width=64))
    write_image(tmp_path / "small.png", picture(2, 16, 16))
    write_image(tmp_path / "plain.png", np.full((32, 32, 3), 90, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    write_hint(tmp_path / "hint.png", picture(3)[..., :1])
    write_hint(tmp_path / "dead.png", np.zeros((32, 32, 1), np.uint8))
    entries = [
        {"image": "good.png", "hint": "hint.png", "prompt": "good"},
        {"image": "again.png", "hint": "hint.png", "prompt": "the same"},
        {"image": "wide.png", "hint": "hint.png", "prompt": "of another shape"},
        {"image": "small.png", "prompt": "too small"},
        {"image": "plain.png", "prompt": "without edges"},
        {"image": "wide.png", "hint": "dead.png", "prompt": " "},
        {"image": "absent.png", "prompt": "gone"},
        {"image": "good.png", "hint": "absent.png", "prompt": "hint gone"},
        {"image": "broken.png", "prompt": "damaged"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
    done: list[int] = []
    report = check_dataset(
        open_dataset(tmp_path, read_hint=partial(read_hint, channels=1)),
        detect=edges,
        resolution=32,
        on_example=done.append,
    )
    found = [(p.name, p.what.split(":")[0].split(",")[0], p.fatal) for p in report.problems]
    assert found[:10] == [
        ("again.png", "the same image as good.png", False),
        ("wide.png", "the image is 64 x 32 but the hint 32 x 32", False),
        ("small.png", "the image is 16 x 16", False),
        ("small.png", "it has no hint", False),
        ("plain.png", "the detector finds nothing", False),
        ("plain.png", "it has no hint", False),
        ("wide.png", "the hint is blank", False),
        ("wide.png", "the image is 64 x 32 but the hint 32 x 32", False),
        ("wide.png", "the prompt is empty", False),
        ("wide.png", "the same image as wide.png", False),
    ]
    assert [(name, fatal) for name, _, fatal in found[10:]] == [
        ("absent.png", True),
        ("good.png", True),
        ("broken.png", True),
    ]
    assert str(report.problems[10]) == "absent.png: no such file"
    assert (report.examples, report.fatal, report.detected) == (9, 3, 2)
    assert report.sizes == {(32, 32): 3, (32, 64): 2, (16, 16): 1}
    assert done == list(range(1, 10))


def test_scenes_are_sound() -> None:
    report = check_dataset(open_dataset("scenes:4", size=64), detect=edges, resolution=64)
    assert report.problems == []
    assert report.detected == 4


def test_a_hint_of_rounded_sides_has_the_aspect_of_its_image(tmp_path: Path) -> None:
    """At resolution 64, 175 x 150 pixels give 74.7 x 64, which annotate rounds to 72 x 64."""
    write_image(tmp_path / "image.png", picture(0, 150, 175))
    write_hint(tmp_path / "rounded.png", picture(1, 64, 72)[..., :1])
    write_hint(tmp_path / "square.png", picture(1, 64, 64)[..., :1])

    def problems(hint: str) -> list[str]:
        entry = {"image": "image.png", "hint": hint, "prompt": "a picture"}
        (tmp_path / "data.jsonl").write_text(json.dumps(entry))
        report = check_dataset(
            open_dataset(tmp_path / "data.jsonl", read_hint=partial(read_hint, channels=1)),
            detect=edges,
            resolution=64,
        )
        return [problem.what for problem in report.problems]

    assert problems("rounded.png") == []
    assert "do not match if cropped" in problems("square.png")[0]
