"""What is refused of bases of Z-Image: one sentence each, before weights load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.train.run import TrainRequest, plan_training
from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.models.base import Base
from cnctl.models.families import load_base, read_family
from cnctl.models.prompts import describe_length, encode_prompts


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"connect": "middle"}, "--connect is not supported .* no middle block"),
        ({"method": "input-concat"}, "--method is not supported"),
        ({"layers": 11}, "--layers is 11; it must be at most 10"),
        ({"resolution": 72}, "--resolution is 72; it must be a multiple of 16"),
    ],
)
def test_by_train(
    settings: dict[str, Any], what: str, random_zimage_base: Path, tmp_path: Path
) -> None:
    request = TrainRequest(
        condition="canny", data="scenes:12", base=str(random_zimage_base),
        settings={"resolution": 64, "batch_size": 1, **settings},
    )  # fmt: skip
    with pytest.raises(CnctlError, match=what):
        plan_training(request, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"size": (72, 64)}, "72x64 pixels cannot be generated"),
        ({"settings": {"emphasis": True}}, "--emphasis is not supported"),
        ({"settings": {"distilled_guidance": 3.0}}, "--distilled-guidance is not supported"),
    ],
)
def test_by_generate(
    given: dict[str, Any], what: str, write_controlnet: Callable[..., Path],
    random_zimage_base: Path, tmp_path: Path,
) -> None:  # fmt: skip
    write_image(tmp_path / "x.png", np.full((64, 64, 3), 40, np.uint8))
    request = GenerateRequest(
        controls=["canny"], images=[tmp_path / "x.png"], base=str(random_zimage_base), prompt="a",
        weights=[str(write_controlnet(tmp_path / "net"))], out=tmp_path / "o", **given,
    )  # fmt: skip
    with pytest.raises(CnctlError, match=what):
        list(generate(request))


def test_a_long_prompt_is_cut_and_said(loaded_zimage_base: Base) -> None:
    assert describe_length(loaded_zimage_base, "a cat") == ""
    assert describe_length(loaded_zimage_base, "x" * 600).endswith("first 512 of 617 tokens")
    assert encode_prompts(loaded_zimage_base, ["x" * 600]).tokens.shape[1] == 512


def test_what_reads_other_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"siglip_feat_dim": 1152}')
    index = {"transformer": ["diffusers", "ZImageTransformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CnctlError, match="a variant of Z-Image that reads other images"):
        read_family(tmp_path)


def test_without_a_chat_template_it_is_not_whole(random_zimage_base: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(random_zimage_base, tmp_path / "own"))
    (own / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(CnctlError, match="has no chat template"):
        load_base(own)
