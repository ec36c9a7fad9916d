"""`--method input-concat` as a user meets it: trained, described, generated from, refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.info import WeightsInfo, info
from cnctl.commands.train.run import TrainRequest, plan_training, train
from cnctl.errors import CnctlError

SETTINGS = {
    "method": "input-concat",
    "steps": 2,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "preview_every": 2,
    "preview_steps": 1,
    "held_out": 1,
}


def asked(base: Path, **changes: Any) -> TrainRequest:
    init_from = changes.pop("init_from", None)
    return TrainRequest(
        condition="canny",
        data="scenes:12",
        base=str(base),
        init_from=init_from,
        settings=SETTINGS | changes,
    )


@pytest.fixture(scope="module")
def run(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Do not change it."""
    out = tmp_path_factory.mktemp("runs") / "concat"
    result = train(asked(random_base), out)
    assert result.fidelity_after is not None  # previews read the hint too
    assert result.controlnet == out / "input-concat"
    return out


def make(base: Path, run: Path, out: Path, **changes: Any) -> np.ndarray:
    hint = Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8) * 255)
    hint.save(out.with_suffix(".hint.png"))
    request = GenerateRequest(
        controls=["canny"],
        images=[out.with_suffix(".hint.png")],
        ready_hint=True,
        prompt="x",
        seed=0,
        base=str(base),
        weights=[str(run)],
        settings={"steps": 2} | changes,
        out=out,
    )
    (made,) = generate(request)
    return np.asarray(Image.open(made.path))


def test_what_is_saved_is_a_unet_of_diffusers(run: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(run / "input-concat")
    assert (unet.config.in_channels, unet.config.out_channels) == (7, 4)
    assert unet.conv_in.weight[:, 4:].any()


def test_info_names_it(run: Path) -> None:
    found = info(run)
    assert isinstance(found, WeightsInfo)
    assert (found.form, found.condition) == ("U-Net that reads a hint, by input-concat", "canny")
    assert found.hint_channels == 3
    assert found.parameters == sum(tensor.numel() for tensor in load_file(found.path).values())
    assert info(run / "input-concat") == info(found.path) == found


def test_there_is_no_other_layout(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CnctlError, match="trained by input-concat, and has no other layout"):
        convert(ConvertRequest(sources=run, target=tmp_path / "x.safetensors"))
    assert not (tmp_path / "x.safetensors").exists()


def test_generate_loads_it_and_reads_the_hint(run: Path, random_base: Path, tmp_path: Path) -> None:
    with_hint = make(random_base, run, tmp_path / "a.png")
    deaf = tmp_path / "deaf"
    deaf.mkdir()
    for path in (run / "input-concat").iterdir():
        (deaf / path.name).write_bytes(path.read_bytes())
    weights = load_file(deaf / "diffusion_pytorch_model.safetensors")
    weights["conv_in.weight"] = weights["conv_in.weight"].clone()
    weights["conv_in.weight"][:, 4:] = 30 * torch.randn(weights["conv_in.weight"][:, 4:].shape)
    save_file(weights, deaf / "diffusion_pytorch_model.safetensors")
    assert (make(random_base, deaf, tmp_path / "b.png") != with_hint).any()


@pytest.mark.parametrize(
    "acts", [{"control_scale": 0.5}, {"control_end": 0.5}, {"control_mode": "prompt"}]
)
def test_it_has_no_strength_of_its_own(
    run: Path, random_base: Path, tmp_path: Path, acts: dict[str, Any]
) -> None:
    with pytest.raises(CnctlError, match="always reads one hint"):
        make(random_base, run, tmp_path / "x.png", **acts)


@pytest.mark.slow
def test_it_begins_with_what_it_has_learnt(run: Path, random_base: Path, tmp_path: Path) -> None:
    result = train(
        asked(random_base, init_from=str(run), steps=1, learning_rate=1e-9, preview_every=0),
        tmp_path / "on",
    )
    before = load_file(run / "input-concat/diffusion_pytorch_model.safetensors")
    after = load_file(result.controlnet / "diffusion_pytorch_model.safetensors")
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)
    with pytest.raises(CnctlError, match="with another method"):
        train(asked(random_base, init_from=str(run), method="controlnet"), tmp_path / "no")


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"lora": 4}, "--lora"),
        ({"connect": "middle", "unfreeze_after": 1}, "--connect and --unfreeze"),
    ],
)
def test_flags_of_controlnets_are_refused(
    random_base: Path, tmp_path: Path, changes: dict[str, Any], flag: str
) -> None:
    with pytest.raises(CnctlError, match=flag):
        plan_training(asked(random_base, **changes), tmp_path / "run")


def test_the_plan_says_what_learns(random_base: Path, tmp_path: Path) -> None:
    plan = plan_training(asked(random_base), tmp_path / "run")
    unet = UNet2DConditionModel.from_pretrained(random_base / "unet")
    new = unet.conv_in.out_channels * 3 * 9
    assert plan.parameters == sum(p.numel() for p in unet.parameters()) + new
    assert "the whole base, which reads the hint beside the latents" in "\n".join(plan.lines())
