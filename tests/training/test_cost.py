from dataclasses import replace

from cnctl.models.base import Base
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.settings import TrainSettings
from cnctl.training.cost import expected_memory


def test_expected_memory_counts_moments_of_what_is_trained(loaded_random_base: Base) -> None:
    controlnet = build_controlnet(loaded_random_base.denoiser)
    all_of_it = expected_memory(loaded_random_base, controlnet, settings=TrainSettings())
    middle = expected_memory(
        loaded_random_base, controlnet, settings=replace(TrainSettings(), connect="middle")
    )
    links = sum(p.numel() for p in controlnet.controlnet_down_blocks.parameters())
    assert all_of_it - middle == 12 * links
