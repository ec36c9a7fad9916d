"""The ablation of figure 20, on a base of random weights."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from cnctl.data import Pair
from cnctl.models.base import Base
from cnctl.models.unet.input_concat import HintedUNet, build_input_concat
from cnctl.sampling.denoise import sample
from cnctl.settings import TrainSettings
from cnctl.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from cnctl.training.trainer import Training


class Noise:
    groups = (0,) * 5

    def __len__(self) -> int:
        return len(self.groups)

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        image = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        return Pair(image, image[..., :1], f"a {index}")

    def name(self, index: int) -> str:
        return f"noise {index}"


def start(base: Base, *, checkpoint: Checkpoint | None = None, **changes: object) -> Training:
    wide = build_input_concat(base.denoiser, hint_channels=1)
    usual = TrainSettings(
        steps=4, batch_size=2, learning_rate=1e-3, resolution=32, method="input-concat"
    )
    settings = replace(usual, **changes)  # type: ignore[arg-type]
    wider = replace(base, denoiser=wide)
    return Training(wider, wide, Noise(), settings=settings, checkpoint=checkpoint)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, timesteps, text and a hint for two images."""
    generator = torch.Generator().manual_seed(0)
    latents, text, hint = (
        torch.randn(shape, generator=generator)
        for shape in ((2, 4, 8, 8), (2, 77, 32), (2, 3, 64, 64))
    )
    return latents, torch.tensor([3, 700]), text, hint.sigmoid()


def taught(base: Base) -> UNet2DConditionModel:
    """One whose new weights are not zero."""
    wide = build_input_concat(base.denoiser)
    with torch.no_grad():
        wide.conv_in.weight[:, 4:].normal_(generator=torch.Generator().manual_seed(1))
    return wide.eval()


def test_untrained_it_predicts_what_the_base_does(loaded_random_base: Base) -> None:
    unet = loaded_random_base.denoiser
    latents, timesteps, text, hint = inputs()
    wide = build_input_concat(unet)
    assert wide.hint_channels == 3
    with torch.no_grad():
        predicted = HintedUNet(wide, hint)(latents, timesteps, text, return_dict=False)[0]
        expected = unet(latents, timesteps, text, return_dict=False)[0]
    torch.testing.assert_close(predicted, expected)
    assert unet.config.in_channels == 4  # the base itself stays as it is


def test_the_first_convolution_reads_the_mean_hint_of_each_latents_place(
    loaded_random_base: Base,
) -> None:
    latents, timesteps, text, hint = inputs()
    wide = taught(loaded_random_base)
    seen: list[Tensor] = []
    with torch.no_grad():
        wide.conv_in.register_forward_hook(lambda _, __, out: seen.append(out))
        HintedUNet(wide, hint)(latents, timesteps, text)
        means = hint.reshape(2, 3, 8, 8, 8, 8).mean((3, 5))
        own, new = wide.conv_in.weight[:, :4], wide.conv_in.weight[:, 4:]
        convolve = torch.nn.functional.conv2d
        expected = convolve(latents, own, wide.conv_in.bias, padding=1)
        expected += convolve(means, new, padding=1)
    torch.testing.assert_close(seen[0], expected)


def test_an_image_depends_on_its_own_hint_alone(loaded_random_base: Base) -> None:
    hints = inputs()[3]
    wide = taught(loaded_random_base)

    def images(hint: Tensor, seeds: list[int]) -> np.ndarray:
        base, controls = wide.attach(loaded_random_base, hint)
        prompts = ["a", "b"][: len(seeds)] if 0 in seeds else ["b"]
        size = {"height": 64, "width": 64, "steps": 2}
        return sample(base, controls, prompts, seeds=seeds, guidance_scale=3, **size)

    both, swapped = images(hints, [0, 1]), images(hints.flip(0), [0, 1])
    alone = images(hints[1:], [1])
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 1
    assert (both != swapped).any(axis=(1, 2, 3)).all()


def test_the_whole_base_learns(loaded_random_base: Base) -> None:
    training = start(loaded_random_base)
    fresh = build_input_concat(loaded_random_base.denoiser, hint_channels=1).state_dict()
    list(training.run())
    now = training.network.state_dict()
    assert [name for name in now if torch.equal(now[name], fresh[name])] == []
    assert now["conv_in.weight"][:, 4:].any()


@pytest.mark.slow
def test_interrupted_is_uninterrupted_bit_for_bit(loaded_random_base: Base, tmp_path: Path) -> None:
    changes = {"gradient_accumulation": 2, "ema": 0.9}
    whole = start(loaded_random_base, **changes)
    losses = [report.loss for report in whole.run()]
    begun = start(loaded_random_base, **changes)
    first = [report.loss for report in islice(begun.run(), 2)]
    save_checkpoint(tmp_path, begun.step, tensors=begun.tensors(), state=begun.state())
    resumed = start(loaded_random_base, checkpoint=newest_checkpoint(tmp_path), **changes)
    assert first + [report.loss for report in resumed.run()] == losses
    ours, theirs = resumed.tensors(), whole.tensors()
    for group, named in theirs.items():
        assert all(torch.equal(ours[group][name], tensor) for name, tensor in named.items())
