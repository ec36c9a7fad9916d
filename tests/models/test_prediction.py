"""What a base predicts is read from headers, and weights for another prediction are reported."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cnctl.models.location import Location
from cnctl.models.prediction import misfit
from cnctl.models.unet.config import read_prediction
from cnctl.models.unet.weights import check_weights


@pytest.mark.parametrize(
    ("recorded", "prediction", "odd"),
    [
        ("epsilon", "epsilon", ""),
        ("epsilon", "v_prediction", "a base that predicts the noise, and this one predicts v: "),
        ("v_prediction", "flow", "a base that predicts v, and this one predicts a flow: "),
        (None, "flow", ""),
        ("epsilon", "", ""),
    ],
)
def test_misfit(recorded: str | None, prediction: str, odd: str) -> None:
    found = misfit({"prediction": recorded} if recorded else {}, prediction)
    assert odd in found
    assert bool(odd) == bool(found)


def set_prediction(base: Path, prediction: str) -> None:
    path = base / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": prediction}))


def test_of_a_folder(own_base: Path, random_sd2_base: Path) -> None:
    assert read_prediction(own_base) == "epsilon"
    assert read_prediction(random_sd2_base) == "v_prediction"


@pytest.mark.parametrize(
    ("linear", "metadata", "mark", "expected"),
    [
        (False, {}, False, "epsilon"),
        (False, {}, True, "v_prediction"),
        (True, {}, False, ""),
        (True, {"modelspec.prediction_type": "v"}, False, "v_prediction"),
        (True, {"modelspec.prediction_type": "epsilon"}, False, "epsilon"),
    ],
)
def test_of_a_file(
    tmp_path: Path, linear: bool, metadata: dict[str, str], mark: bool, expected: str
) -> None:
    inner = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    tensors = {
        "input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
        "input_blocks.1.0.in_layers.2.weight": torch.zeros(8, 8, 3, 3),
        "input_blocks.1.1.proj_in.weight": torch.zeros((8, 8) if linear else (8, 8, 1, 1)),
        inner: torch.zeros(8, 16),
    }
    named = {f"model.diffusion_model.{name}": tensor for name, tensor in tensors.items()}
    save_file(
        named | ({"v_pred": torch.zeros(0)} if mark else {}), tmp_path / "x.safetensors", metadata
    )
    assert read_prediction(tmp_path / "x.safetensors") == expected


def test_weights_that_say_it_are_compared_with_the_base(
    own_base: Path, random_controlnet: object, tmp_path: Path
) -> None:
    random_controlnet.save_pretrained(tmp_path / "control")  # type: ignore[attr-defined]
    (tmp_path / "control" / "cnctl.json").write_text('{"prediction": "epsilon"}')
    location = Location(own_base, "own", "")
    asked = {"condition": "canny", "hint_channels": 3, "control_type": None}
    assert check_weights(tmp_path / "control", location, **asked) == ()
    set_prediction(own_base, "v_prediction")
    [odd] = check_weights(tmp_path / "control", location, **asked)
    assert odd.startswith(
        "it was trained for a base that predicts the noise, and this one predicts v"
    )
