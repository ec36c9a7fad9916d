"""The number of threads is chosen by the work, recorded, and used again by --from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnctl.commands.generate.events import Note
from cnctl.commands.generate.record import read_record
from cnctl.commands.generate.replay import replay
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.generate.threads import choose_threads, on_threads
from cnctl.errors import CnctlError
from cnctl.models.families import load_base

HINT = Path(__file__).parents[3] / "examples/hints/canny-cat.png"


@pytest.mark.parametrize(
    ("side", "images", "asked", "expected"),
    [(128, 4, None, 1), (128, 5, None, 2), (512, 1, None, 2), (512, 1, 1, 1), (128, 1, 3, 3)],
)
def test_a_small_batch_of_a_small_network_has_one(
    random_base: Path, side: int, images: int, asked: int | None, expected: int
) -> None:
    base = load_base(random_base)
    with on_threads(2):
        assert choose_threads(base, pixels=images * side * side, asked=asked) == expected


def test_the_number_is_that_of_the_block_only() -> None:
    usual = torch.get_num_threads()
    with on_threads(usual + 1):
        assert torch.get_num_threads() == usual + 1
    assert torch.get_num_threads() == usual


@pytest.mark.slow
def test_an_image_is_made_again_on_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HINT.parent)
    asked = GenerateRequest(
        controls=["canny"],
        images=[HINT],
        ready_hint=True,
        base="tiny",
        prompt="a cat",
        settings={"steps": 2},
        seed=1,
        threads=2,
        out=tmp_path / "first",
    )
    (first,) = generate(asked)
    assert read_record(first.path).threads == 2
    (again,) = generate(replay(first.path, GenerateRequest(out=tmp_path / "again")))
    assert read_record(again.path).threads == 2
    assert np.array_equal(np.asarray(Image.open(again.path)), np.asarray(Image.open(first.path)))
    notes: list[object] = []
    other = replay(first.path, GenerateRequest(out=tmp_path / "other", threads=1))
    [*generate(other, on_event=notes.append)]
    assert Note("made on 1 of the CPU's threads, the first time on 2") in notes


def test_more_threads_than_cores_are_refused(tmp_path: Path) -> None:
    asked = GenerateRequest(controls=["canny"], images=[HINT], threads=100_000, out=tmp_path)
    with pytest.raises(CnctlError, match="--threads 100000 of"):
        [*generate(asked)]
