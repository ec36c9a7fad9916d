"""A plan says how many prompts training cuts."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.commands.shared.events import Loading
from cnctl.commands.train.long_prompts import describe_cut
from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.run import check_data, plan_training, train
from cnctl.data import open_dataset
from cnctl.images import read_hint, write_image
from cnctl.models.base import Base


@pytest.mark.parametrize(
    ("long", "is_remote", "said"),
    [
        (0, False, ""),
        (2, False, "2 cut to what a text encoder reads at once"),
        (2, True, "2 of the first 16 cut to what a text encoder reads at once"),
    ],
)
def test_long_prompts_are_counted(
    long: int, is_remote: bool, said: str, loaded_random_base: Base, tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    prompts = ["a cat " * 100] * long + ["a cat", "a cat" + " " * 100, *[""] * 15]
    lines = (json.dumps({"file_name": "a.png", "text": prompt}) for prompt in prompts)
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    dataset = open_dataset(str(tmp_path), read_hint=read_hint)
    assert describe_cut(dataset, loaded_random_base, is_remote=is_remote) == said


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Two examples with a prompt that is cut, and fourteen others."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    lines = []
    for number in range(16):
        write_image(folder / f"{number}.png", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        prompt = "a cat " * (100 if number < 2 else 1)
        lines.append(json.dumps({"file_name": f"{number}.png", "text": prompt}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return str(folder)


def test_they_are_said_before_weights_load(data: str, random_base: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def hear(event: object) -> None:
        if isinstance(event, Loading):
            raise InterruptedError
        said.append(getattr(event, "text", ""))

    request = TrainRequest(
        condition="canny", data=data, base=str(random_base),
        settings={"resolution": 64, "batch_size": 1},
    )  # fmt: skip
    with pytest.raises(InterruptedError):
        train(request, tmp_path / "run", on_event=hear)
    assert "prompts: 2 cut to what a text encoder reads at once" in said
    assert "16 given, 0 empty, 2 cut to what" in plan_training(request, tmp_path / "run").prompts


def test_check_names_each(data: str, random_base: Path) -> None:
    report = check_data("canny", data, base=str(random_base), resolution=64)
    cut = [p.name for p in report.problems if p.what.startswith("the prompt is cut")]
    assert len(cut) == 2
    assert not report.fatal


def test_check_without_the_base_says_so(data: str) -> None:
    said: list[str] = []
    check_data(
        "canny", data, base="sd21", resolution=64, on_event=lambda event: said.append(str(event))
    )
    assert any("the length of prompts is not checked: " in text for text in said)
