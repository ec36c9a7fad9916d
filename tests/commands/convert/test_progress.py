"""What a progress bar hears of a conversion: it rises, and ends when all is read and written."""

import pytest
import torch
from safetensors.torch import load_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.shared.events import Stage


@pytest.fixture
def folder(random_controlnet, tmp_path):
    random_controlnet.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"to": "control-lora", "rank": 2}])
def test_progress_rises_to_the_end(folder, random_base, tmp_path, options) -> None:
    heard: list[Stage] = []
    if "rank" in options:
        options = options | {"base": random_base}
    convert(
        ConvertRequest(sources=folder, target=tmp_path / "out.safetensors", **options),
        on_event=heard.append,
    )
    assert all(0 <= event.done <= event.total for event in heard)
    assert [event.done for event in heard] == sorted(event.done for event in heard)
    assert heard[-1].done == heard[-1].total


def test_what_is_hashed_counts(folder, tmp_path) -> None:
    """A full checkpoint is read for its hash long after the ControlNet in it is written."""
    bare = convert(ConvertRequest(sources=folder, target=tmp_path / "bare.safetensors")).path
    companions = {"model.diffusion_model.out.2.bias": torch.zeros(10**7)}
    torch.save(load_file(bare) | companions, tmp_path / "full.pth")
    heard: list[Stage] = []
    convert(
        ConvertRequest(
            sources=tmp_path / "full.pth",
            target=tmp_path / "out.safetensors",
            config=folder / "config.json",
        ),
        on_event=heard.append,
    )
    size = (tmp_path / "full.pth").stat().st_size
    assert heard[-1].total == size + 4 * sum(t.numel() for t in load_file(bare).values())
