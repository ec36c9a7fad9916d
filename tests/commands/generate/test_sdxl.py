"""Generating and training on an SDXL base of reduced width, as jobs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from cnctl.commands.generate.replay import replay
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.train.run import TrainRequest, train
from cnctl.errors import CnctlError
from cnctl.images import write_image

CANNY = [ControlSpec(condition="canny")]
SETTINGS = {"steps": 2, "guidance_scale": 5.0}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.full((64, 96, 3), 40, np.uint8)
    pixels[20:50, 30:70] = (230, 120, 40)
    write_image(tmp_path / "box.png", pixels)
    return tmp_path / "box.png"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_generates_and_makes_the_same_again(
    random_sdxl_base: Path, sdxl_controlnet: ControlNetModel, photo: Path, tmp_path: Path
) -> None:
    sdxl_controlnet.save_pretrained(tmp_path / "control")
    request = GenerateRequest(
        controls=CANNY,
        images=[photo],
        prompt="a red house " * 20,
        weights=[str(tmp_path / "control")],
        base=str(random_sdxl_base),
        settings=SETTINGS,
        out=tmp_path / "out",
    )
    [made] = generate(request)
    assert pixels(made.path).shape == (64, 96, 3)
    asked = GenerateRequest(
        base=str(random_sdxl_base), weights=[str(tmp_path / "control")], out=tmp_path / "again"
    )
    [again] = generate(replay(made.path, asked))
    assert np.array_equal(pixels(again.path), pixels(made.path))
    [other] = generate(replay(made.path, replace(asked, prompt="a cat", overwrite=True)))
    assert not np.array_equal(pixels(other.path), pixels(made.path))


def test_a_controlnet_for_another_family_is_refused_before_weights_load(
    random_sdxl_base: Path, random_controlnet: ControlNetModel, photo: Path, tmp_path: Path
) -> None:
    random_controlnet.save_pretrained(tmp_path / "control")
    asked = GenerateRequest(
        controls=CANNY,
        images=[photo],
        prompt="a cat",
        weights=[str(tmp_path / "control")],
        base=str(random_sdxl_base),
    )
    with pytest.raises(CnctlError, match=r"this ControlNet was made for .*; the base is") as caught:
        next(generate(asked))
    assert caught.value.hint.startswith("choose a base of")


def photographs(folder: Path) -> Path:
    """Twelve of 40x80 pixels, of which training at 64 pixels sees a part."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(12):
        write_image(folder / f"{number}.png", rng.integers(0, 256, (40, 80, 3), dtype=np.uint8))
        lines.append(json.dumps({"image": f"{number}.png", "prompt": f"a {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("cached", [False, True])
def test_training_resumes_bit_for_bit(random_sdxl_base: Path, tmp_path: Path, cached: bool) -> None:
    data = photographs(tmp_path)
    settings = {
        "batch_size": 2,
        "learning_rate": 1e-3,
        "resolution": 64,
        "random_crop": True,
        "prompt_dropout": 0.3,
        "preview_every": 4,
        "preview_steps": 2,
        "checkpoint_every": 2,
    }
    asked = {
        "condition": "canny",
        "data": str(data),
        "base": str(random_sdxl_base),
        "cache": str(tmp_path / "cache") if cached else None,
    }
    whole = train(TrainRequest(**asked, settings={**settings, "steps": 4}), tmp_path / "whole")
    train(TrainRequest(**asked, settings={**settings, "steps": 2}), tmp_path / "part")
    rest = train(TrainRequest(settings={"steps": 4}), tmp_path / "part", resume=True)
    weights = [load_file(next(run.controlnet.glob("*.safetensors"))) for run in (whole, rest)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    moved = [name for name in weights[0] if "zero_conv" in name or "controlnet_down" in name]
    assert all(weights[0][name].any() for name in moved if name.endswith("weight"))
    assert weights[0]["add_embedding.linear_1.weight"].shape[1] == 80


def test_training_tells_the_sizes_and_crops_that_there_were(
    random_sdxl_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    forward = UNet2DConditionModel.forward

    def listening(self: UNet2DConditionModel, *given: Any, **named: Any) -> Any:
        told.extend(named["added_cond_kwargs"]["time_ids"].int().tolist())
        return forward(self, *given, **named)

    monkeypatch.setattr(UNet2DConditionModel, "forward", listening)
    request = TrainRequest(
        condition="canny",
        data=str(photographs(tmp_path)),
        base=str(random_sdxl_base),
        settings={
            "steps": 3,
            "batch_size": 4,
            "resolution": 64,
            "random_crop": True,
            "preview_every": 0,
        },
    )
    train(request, tmp_path / "run")
    assert len(told) == 12
    # 40x80 becomes 64x128, and up to 64 columns stand over.
    assert {(*size[:3], *size[4:]) for size in told} == {(40, 80, 0, 64, 64)}
    lefts = [size[3] for size in told]
    assert min(lefts) >= 0
    assert max(lefts) <= 64
    assert len(set(lefts)) > 6
