"""A plan says how many prompts training cuts."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.commands.train.long_prompts import describe_cut
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
