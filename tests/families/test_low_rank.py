"""What a family of transformers promises of Control-LoRAs, and of ControlNets moved between bases.

Those of U-Nets, whose layouts are published, are tested in tests/models/unet.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cnctl.commands.convert.init_from_base import init_from_base
from cnctl.commands.convert.request import ConvertRequest, InitRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.info import WeightsInfo, info
from cnctl.commands.shared.weights import open_control
from cnctl.commands.train.run import TrainRequest, train
from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.models.base import Base
from cnctl.models.layouts import load_controlnet
from cnctl.models.network import Network
from cnctl.models.prompts import encode_prompts
from cnctl.registry import get_condition
from cnctl.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("transformer")
RANK = 2
COMPUTED = "pos_embed.pos_embed"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="session")
def fresh(base: Base) -> Callable[..., Network]:
    """As a training run starts."""
    settings = TrainSettings()

    def run(**how: Any) -> Network:
        return base.family.build_network(
            base,
            method="controlnet",
            hint_channels=3,
            hint_encoder=settings.hint_encoder,
            hint_start=settings.hint_start,
            **how,
        ).eval()

    return run


@pytest.fixture(scope="session")
def trained(fresh: Callable[..., Network]) -> Network:
    """A Control-LoRA, of which all that learns has moved."""
    network = fresh(rank=RANK, seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.own_parameters().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture
def low_rank(trained: Network, tmp_path: Path) -> Path:
    """As a training run saves it."""
    path = tmp_path / "run" / "controlnet.safetensors"
    path.parent.mkdir()
    assert trained.export_name == path.name
    trained.save(path, description={"condition": "canny"})
    return path


def residuals(base: Base, network: Network, hint: Tensor) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *base.family.latents.shape(base, 64, 80), generator=generator)
    text = encode_prompts(base, ["a cat"]).guided_by(base.distilled_guidance)
    text = text.of_pictures([(64, 80, 0, 0, 64, 80)])
    with torch.no_grad():
        encoded = network.encode_hint(base, hint)
        return network.residuals(base, latents, torch.tensor(500), text, encoded).tensors


def test_its_product_starts_at_zero_and_its_copy_is_locked(fresh: Callable[..., Network]) -> None:
    plain, adapted = fresh(seed=1), fresh(seed=1, rank=RANK)
    state, learnt = adapted.state_dict(), adapted.own_parameters()
    for name, tensor in plain.state_dict().items():
        layer, _, kind = name.rpartition(".")
        adapted_name = f"{layer}.base_layer.{kind}"
        assert torch.equal(state.get(adapted_name, state.get(name)), tensor)
        if adapted_name in state and kind == "weight":
            assert not state[f"{layer}.lora_B.default.weight"].any()
    assert not any(
        "base_layer" in name or ("norm" in name and "lora" not in name) for name in learnt
    )
    zeros = {name for name, tensor in plain.named_parameters() if not tensor.any()}
    links = {name for name in zeros if name.startswith("controlnet_") or "after_proj" in name}
    assert links <= learnt.keys()
    assert any(".lora_A." in name for name in learnt)


def test_it_is_the_base_and_the_product_of_its_factors(
    base: Base, source: str, trained: Network, low_rank: Path, hint: Tensor, tmp_path: Path
) -> None:
    """What is opened, what is merged and what was trained make the same residuals."""
    expected = residuals(base, trained, hint)
    opened = open_control(get_condition("canny"), base, weights=str(low_rank.parent))
    for found, residual in zip(residuals(base, opened, hint), expected, strict=True):
        assert (found - residual).abs().max() <= 1e-4 * residual.abs().max()
    merged = convert(
        ConvertRequest(sources=low_rank.parent, target=tmp_path / "merged", base=source)
    )
    assert merged.source_form == "Control-LoRA"
    whole, _ = load_controlnet(tmp_path / "merged")
    assert all(torch.equal(t, whole.state_dict()[n]) for n, t in opened.state_dict().items())
    kept = sum(tensor.numel() for tensor in load_file(low_rank).values())
    assert kept < sum(tensor.numel() for tensor in whole.state_dict().values())


def test_extracted_at_its_rank_it_is_the_same(source: str, low_rank: Path, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again.safetensors"
    convert(ConvertRequest(sources=low_rank, target=whole, to="diffusers", base=source))
    asked = {"to": "control-lora", "base": source}
    made = convert(ConvertRequest(sources=whole, target=again, **asked, rank=RANK, verify=True))
    assert (made.error or 0.0) < 1e-3
    assert (made.relative_difference or 0.0) < 1e-3
    theirs = load_file(low_rank)
    assert load_file(again).keys() >= theirs.keys()
    found = info(again)
    assert isinstance(found, WeightsInfo)
    assert (found.rank, found.condition, "Control-LoRA" in found.form) == (RANK, "canny", True)
    assert found.merged == sum(
        t.numel() for n, t in load_file(whole / WEIGHTS).items() if n != COMPUTED
    )
    # Every weight is larger than its factors of half its sides: what is not factored is whole.
    full = tmp_path / "full.safetensors"
    made = convert(ConvertRequest(sources=whole, target=full, **asked, rank=4096))
    assert made.error == 0
    back = convert(
        ConvertRequest(sources=full, target=tmp_path / "back", to="diffusers", base=source)
    )
    original = load_file(whole / WEIGHTS)
    assert all(torch.equal(t, original[n]) for n, t in load_file(back.path / WEIGHTS).items())


def test_without_its_base_it_is_refused(low_rank: Path, tmp_path: Path) -> None:
    with pytest.raises(CnctlError, match="a ControlNet only together with a base"):
        convert(ConvertRequest(sources=low_rank, target=tmp_path / "x", to="diffusers"))


def test_with_another_base_it_is_refused(
    case: Any, source: str, low_rank: Path, random_base: Path, tmp_path: Path
) -> None:
    """One of another family, and one of another size."""
    asked = {"sources": low_rank, "target": tmp_path / "x", "to": "diffusers"}
    with pytest.raises(CnctlError, match="is not a base of"):
        convert(ConvertRequest(**asked, base=str(random_base)))
    other = tmp_path / "other"
    shutil.copytree(source, other)
    place = other / case.part / "config.json"
    config = json.loads(place.read_text())
    place.write_text(json.dumps(config | {"in_channels": 32}))
    with pytest.raises(CnctlError, match=r"embed|img_in"):
        convert(ConvertRequest(**asked, base=str(other)))


def test_a_rank_of_which_no_weight_is_larger_is_refused(fresh: Callable[..., Network]) -> None:
    with pytest.raises(CnctlError, match="larger than two factors of rank 100000"):
        fresh(rank=100_000)


def moved_base(case: Any, source: str, target: Path) -> dict[str, Tensor]:
    """A base that differs from this one by 0.5 in every weight of its denoiser."""
    shutil.copytree(source, target)
    file = target / case.part / WEIGHTS
    tensors = {name: tensor + 0.5 for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    return tensors


def test_it_moves_to_another_base_with_its_copy_alone(
    case: Any, source: str, saved: Path, network: Network, fresh: Any, tmp_path: Path
) -> None:
    moved_base(case, source, tmp_path / "other")
    convert(
        ConvertRequest(
            sources=saved,
            target=tmp_path / "moved",
            from_base=source,
            to_base=str(tmp_path / "other"),
        )
    )
    after = load_file(tmp_path / "moved" / WEIGHTS)
    started = fresh(seed=1).state_dict()
    moved = 0
    for name, tensor in network.state_dict().items():
        copied = torch.equal(started[name], tensor)  # else it is a link, which the fixture fills
        hint = "cond_embedding" in name or "x_embedder" in name or "before_proj" in name
        hint = hint or "pos_embed_input" in name
        if copied and not hint:
            torch.testing.assert_close(after[name], tensor + 0.5)
            moved += 1
        elif not copied:
            assert torch.equal(after[name], tensor)
    assert moved > len(after) / 2


def test_an_untrained_one_from_the_base_is_what_training_starts_from(
    base: Base, source: str, fresh: Any, tmp_path: Path
) -> None:
    init_from_base(InitRequest(base=source, target=tmp_path / "fresh", seed=7))
    found, expected = load_file(tmp_path / "fresh" / WEIGHTS), fresh(seed=7)
    assert all(torch.equal(t, found[name]) for name, t in expected.state_dict().items())
    loaded, description = load_controlnet(tmp_path / "fresh")
    assert description["family"] == base.family.name
    assert loaded.residual_count == expected.residual_count


def test_it_trains_resumes_and_generates(source: str, photographs: Path, tmp_path: Path) -> None:
    settings = {
        "batch_size": 2, "learning_rate": 1e-2, "resolution": 64, "preview_every": 0,
        "checkpoint_every": 2, "lora": RANK, "gradient_checkpointing": True,
    }  # fmt: skip
    asked: dict[str, Any] = {"condition": "canny", "data": str(photographs), "base": source}
    whole = train(TrainRequest(**asked, settings={**settings, "steps": 3}), tmp_path / "whole")
    train(TrainRequest(**asked, settings={**settings, "steps": 2}), tmp_path / "part")
    rest = train(TrainRequest(settings={"steps": 3}), tmp_path / "part", resume=True)
    assert whole.controlnet == tmp_path / "whole" / "controlnet.safetensors"
    assert whole.controlnet.read_bytes() == rest.controlnet.read_bytes()
    ups = {name: t for name, t in load_file(whole.controlnet).items() if name.endswith(".up")}
    assert sum(bool(up.any()) for up in ups.values()) > len(ups) / 2
    write_image(tmp_path / "x.png", np.full((64, 64, 3), 40, np.uint8))
    request = GenerateRequest(
        controls=["canny"], images=[tmp_path / "x.png"], prompt="a cat", base=source,
        weights=[str(tmp_path / "whole")], ready_hint=True, out=tmp_path / "out",
        settings={"steps": 1, "resolution": 64},
    )  # fmt: skip
    [made] = generate(request)
    assert made.path.exists()
    assert isinstance(info(tmp_path / "whole"), WeightsInfo)
