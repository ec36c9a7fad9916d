"""What a progress bar hears of a conversion: it rises, and ends when all is read and written."""

import pytest
import torch
from safetensors.torch import load_file

from cnctl.commands.convert.run import convert


@pytest.fixture
def folder(random_controlnet, tmp_path):
    random_controlnet.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"to": "control-lora", "rank": 2}])
def test_progress_rises_to_the_end(folder, random_base, tmp_path, options) -> None:
    heard: list[tuple[int, int]] = []
    if "rank" in options:
        options = options | {"base": random_base}
    convert(
        folder,
        tmp_path / "out.safetensors",
        progress=lambda done, total: heard.append((done, total)),
        **options,
    )
    assert all(0 <= done <= total for done, total in heard)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert heard[-1][0] == heard[-1][1]


def test_what_is_hashed_counts(folder, tmp_path) -> None:
    """A full checkpoint is read for its hash long after the ControlNet in it is written."""
    bare = convert(folder, tmp_path / "bare.safetensors").path
    companions = {"model.diffusion_model.out.2.bias": torch.zeros(10**7)}
    torch.save(load_file(bare) | companions, tmp_path / "full.pth")
    heard: list[tuple[int, int]] = []
    convert(
        tmp_path / "full.pth",
        tmp_path / "out.safetensors",
        config=folder / "config.json",
        progress=lambda done, total: heard.append((done, total)),
    )
    size = (tmp_path / "full.pth").stat().st_size
    assert heard[-1][1] == size + 4 * sum(t.numel() for t in load_file(bare).values())
