"""What a family promises of the commands: train, resume, save, convert, generate, repeat."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.generate import setup
from cnctl.commands.generate.dry_run import plan_generation
from cnctl.commands.generate.replay import replay
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.info import WeightsInfo, info
from cnctl.commands.shared.events import Loading
from cnctl.commands.train.run import TrainRequest, train
from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.models.layouts import load_controlnet
from cnctl.models.network import Network

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_training_moves_the_copy_and_resumes_bit_for_bit(
    source: str, photographs: Path, tmp_path: Path
) -> None:
    settings = {
        "batch_size": 2,
        "learning_rate": 1e-3,
        "resolution": 64,
        "random_crop": True,
        "prompt_dropout": 0.3,
        "preview_every": 0,
        "checkpoint_every": 2,
    }
    asked = {
        "condition": "canny",
        "data": str(photographs),
        "base": source,
        "cache": str(tmp_path / "cache"),
    }
    whole = train(TrainRequest(**asked, settings={**settings, "steps": 3}), tmp_path / "whole")
    train(TrainRequest(**asked, settings={**settings, "steps": 2}), tmp_path / "part")
    rest = train(TrainRequest(settings={"steps": 3}), tmp_path / "part", resume=True)
    weights = [load_file(next(run.controlnet.glob("*.safetensors"))) for run in (whole, rest)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    zeros = [name for name in weights[0] if name.startswith("controlnet_") and "weight" in name]
    assert all(weights[0][name].any() for name in zeros)


def test_what_is_saved_is_read_by_diffusers_and_by_info(
    case: Any, source: str, network: Network, saved: Path
) -> None:
    theirs = case.reference.controlnet.from_pretrained(saved).state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in network.state_dict().items())
    found = info(saved)
    assert isinstance(found, WeightsInfo)
    assert (found.condition, found.hint_channels) == ("canny", 3)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_convert_there_and_back_is_the_identity(
    case: Any, network: Network, saved: Path, tmp_path: Path
) -> None:
    for form in case.forms:
        request = ConvertRequest(
            sources=saved, target=tmp_path / f"{form}.safetensors", to=form, verify=form != "bare"
        )
        there = convert(request)
        assert there.difference in (0, None)
        convert(ConvertRequest(sources=there.path, target=tmp_path / form))
        for name in ("config.json", WEIGHTS):
            assert (tmp_path / form / name).read_bytes() == (saved / name).read_bytes()
        loaded = load_controlnet(there.path)[0].state_dict()
        assert all(torch.equal(t, loaded[name]) for name, t in network.state_dict().items())


def test_a_long_prompt_is_reported_before_weights_load(
    source: str, saved: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    def hear(event: Any) -> None:
        if isinstance(event, Loading):
            raise InterruptedError
        said.append(getattr(event, "text", ""))

    write_image(tmp_path / "x.png", np.full((64, 64, 3), 40, np.uint8))
    request = GenerateRequest(
        controls=["canny"], images=[tmp_path / "x.png"], prompt="a red house " * 400, base=source,
        weights=[str(saved)], ready_hint=True, out=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(InterruptedError):
        list(generate(request, on_event=hear))
    assert any("the prompt is long" in text for text in said), said


def test_a_wrong_number_of_scales_is_refused_before_weights_load(
    source: str, network: Network, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "LARGE", -1)
    write_image(tmp_path / "x.png", np.full((64, 64, 3), 40, np.uint8))
    events: list[Any] = []
    for scales, message in (
        ("residual_scales", f"99 residual scales for {network.residual_count} residuals"),
        ("step_scales", "99 step scales for 2 steps"),
    ):
        request = GenerateRequest(
            controls=[ControlSpec(condition="canny", **{scales: (1.0,) * 99})],
            images=[tmp_path / "x.png"],
            base=source,
            prompt="a",
            weights=[str(saved)],
            out=tmp_path / "out",
            settings={"steps": 2, "resolution": 64},
        )
        with pytest.raises(CnctlError, match=message):
            list(generate(request, on_event=events.append))
        with pytest.raises(CnctlError, match=message):
            plan_generation(request, events.append)
    assert not any(isinstance(event, Loading) for event in events)


def test_generates_and_makes_the_same_again(source: str, saved: Path, tmp_path: Path) -> None:
    pixels = np.full((64, 96, 3), 40, np.uint8)
    pixels[20:50, 30:70] = (230, 120, 40)
    write_image(tmp_path / "box.png", pixels)
    [made] = generate(
        GenerateRequest(
            controls=["canny"],
            images=[tmp_path / "box.png"],
            prompt="a red house " * 20,
            weights=[str(saved)],
            base=source,
            settings={"steps": 2, "guidance_scale": 5.0, "resolution": 64},
            out=tmp_path / "out",
        )
    )
    asked = GenerateRequest(base=source, weights=[str(saved)], out=tmp_path / "again")
    [again] = generate(replay(made.path, asked))
    image, same = (np.asarray(Image.open(result.path)) for result in (made, again))
    assert image.shape[2] == 3
    assert np.array_equal(same, image)
    [other] = generate(replay(made.path, replace(asked, prompt="a cat", overwrite=True)))
    assert not np.array_equal(np.asarray(Image.open(other.path)), image)
