import torch

from cnctl.models.adapters import add_adapters, low_rank_state
from cnctl.models.base import Base
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.models.unet.family import is_own


def test_adapters_change_nothing_at_first_and_leave_the_copy_alone(
    loaded_random_base: Base,
) -> None:
    plain, adapted = (build_controlnet(loaded_random_base.denoiser, seed=1) for _ in range(2))
    add_adapters(adapted, is_own=is_own, rank=2, seed=0)
    generator = torch.Generator().manual_seed(0)
    width = loaded_random_base.denoiser.config.cross_attention_dim
    inputs = {
        "latents": torch.randn(1, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([7]),
        "text": TextFeatures(torch.randn(1, 5, width, generator=generator)),
        "hint": torch.rand(1, 3, 64, 64, generator=generator),
    }
    for network in (plain, adapted):
        torch.nn.init.ones_(network.controlnet_mid_block.bias)
    ours, theirs = (network.residuals(None, **inputs) for network in (adapted, plain))
    assert torch.equal(ours.tensors[-1], theirs.tensors[-1])

    trained = adapted.learning_parameters()
    own = {name for name in dict(plain.named_parameters()) if name.startswith("controlnet_")}
    assert own <= trained.keys()
    assert all(".lora_" in name for name in trained.keys() - own)
    assert any("down_blocks.1.attentions.0" in name for name in trained)
    assert sum(p.numel() for p in trained.values()) < 0.3 * sum(
        p.numel() for p in plain.parameters()
    )


def test_the_product_of_the_factors_is_the_change(loaded_random_base: Base) -> None:
    controlnet = build_controlnet(loaded_random_base.denoiser, seed=1)
    add_adapters(controlnet, is_own=is_own, rank=2, seed=0)
    for name, parameter in controlnet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    state = low_rank_state(controlnet)
    for name in ("mid_block.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1"):
        up, down = state[f"{name}.up"], state[f"{name}.down"]
        change = controlnet.get_submodule(name).get_delta_weight("default")
        product = (up.flatten(1) @ down.flatten(1)).view_as(change)
        torch.testing.assert_close(product, change)
