"""Forms of ControlNets are recognised by keys."""

import pytest

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.recognise import detect, select

CONTROL = ["control_model.input_hint_block.0.weight", "control_model.time_embed.0.weight"]
BASE = ["model.diffusion_model.out.0.weight", "first_stage_model.x", "cond_stage_model.y", "betas"]


@pytest.mark.parametrize(
    ("names", "name", "label", "prefix"),
    [
        (["controlnet_cond_embedding.conv_in.weight"], "diffusers", "diffusers", ""),
        (CONTROL, "original", "original, ControlNet alone", "control_model."),
        (CONTROL + BASE, "original", "original, full checkpoint", "control_model."),
        (["input_hint_block.0.weight"], "bare", "original, bare keys", ""),
        (["difference", *CONTROL], "bare", "webui difference", "control_model."),
        (["lora_controlnet", "input_hint_block.0.weight"], "bare", "Control-LoRA", ""),
    ],
)
def test_forms(names, name, label, prefix) -> None:
    form = detect(names)
    assert (form.name, form.label, form.prefix) == (name, label, prefix)


def test_companions_are_dropped_and_counted() -> None:
    form = detect(CONTROL + BASE)
    assert set(select(CONTROL + BASE, form).values()) == set(CONTROL)
    assert form.dropped == {
        "the U-Net of Stable Diffusion": 1,
        "the VAE": 1,
        "the text encoder": 1,
        "buffers of the noise schedule": 1,
    }


def test_an_unknown_tensor_beside_the_control_is_an_error() -> None:
    names = [*CONTROL, "surprise.weight", "time_embed.0.weight"]
    with pytest.raises(CnctlError, match=r"2 unknown tensors .*surprise\.weight"):
        select(names, detect(names))


def test_what_is_not_known_at_all() -> None:
    with pytest.raises(CnctlError, match=r"no ControlNet of a known form; its keys begin \(none\)"):
        detect([])


def test_a_refusal_shows_five_keys() -> None:
    with pytest.raises(CnctlError, match=r"its keys begin k0, k1, k2, k3, k4, \.\.\.$"):
        detect(f"k{n}" for n in range(9))
