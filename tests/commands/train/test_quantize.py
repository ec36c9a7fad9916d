"""Training beside a base whose weights have 8 or 4 bits."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from cnctl.commands.train.run import TrainRequest, plan_training, train
from cnctl.errors import CnctlError

SETTINGS = {
    "resolution": 64,
    "batch_size": 1,
    "steps": 2,
    "preview_every": 0,
    "checkpoint_every": 1,
    "layers": 1,
}


def asked(base: Path, form: str | None, **settings: Any) -> TrainRequest:
    return TrainRequest(
        condition="canny",
        data="scenes:4",
        base=str(base),
        quantize=form,
        settings=SETTINGS | settings,
    )


def weights(run: Path) -> dict[str, Any]:
    return load_file(run / "controlnet" / "diffusion_pytorch_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["int8", "nf4"])
def test_it_learns_and_resumes_with_the_same_form(
    form: str, random_sd3_base: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(asked(random_sd3_base, form), whole)
    train(asked(random_sd3_base, form, steps=1), parts)
    train(TrainRequest(settings={"steps": 2}), parts, resume=True)
    learnt = weights(whole)
    assert any(tensor.any() for name, tensor in learnt.items() if "controlnet_blocks" in name)
    resumed = weights(parts)
    assert all((tensor == resumed[name]).all() for name, tensor in learnt.items())
    plain = tmp_path / "plain"
    train(asked(random_sd3_base, None), plain)
    assert any((tensor != learnt[name]).any() for name, tensor in weights(plain).items())
    with pytest.raises(CnctlError, match=f"quantize was '{form}', not 'fp8'"):
        train(TrainRequest(quantize="fp8", settings={"steps": 3}), parts, resume=True)


def test_the_plan_counts_the_smaller_base(random_sd3_base: Path, tmp_path: Path) -> None:
    needed = [
        plan_training(asked(random_sd3_base, form), tmp_path / "run").memory
        for form in (None, "int8", "nf4")
    ]
    assert needed == sorted(needed, reverse=True)
    assert len({*needed}) == 3


def test_a_base_that_learns_is_refused(random_sd3_base: Path, tmp_path: Path) -> None:
    with pytest.raises(CnctlError, match="weights of 8 or 4 bits do not learn"):
        plan_training(
            asked(random_sd3_base, "int8", unfreeze_after=1, unfreeze="all"), tmp_path / "run"
        )
