"""Pretrained ControlNets by short names: what they mean, and what is said where one is missing."""

from pathlib import Path

import pytest
from diffusers import ControlNetModel

from cnctl.commands.shared.known_controls import find_control, known_weights, near_names
from cnctl.commands.shared.weights import open_control
from cnctl.errors import MissingError
from cnctl.models.base import Base
from cnctl.models.published import short_name
from cnctl.registry import get_condition, list_conditions


@pytest.mark.parametrize(
    ("hub_id", "name"),
    [
        ("lllyasviel/control_v11p_sd15_canny", "v11p_canny"),
        ("lllyasviel/control_v11f1p_sd15_depth", "v11f1p_depth"),
        ("lllyasviel/control_v11p_sd15s2_lineart_anime", "v11p_lineart_anime"),
        ("lllyasviel/sd-controlnet-mlsd", "v10_mlsd"),
        ("thibaud/controlnet-sd21-openposev2-diffusers", "sd21_openposev2"),
        ("diffusers/controlnet-zoe-depth-sdxl-1.0", "sdxl_zoe-depth"),
        ("xinsir/controlnet-canny-sdxl-1.0", "sdxl_canny_xinsir"),
        ("someone/my-control", "my-control"),
    ],
)
def test_short_names(hub_id: str, name: str) -> None:
    assert short_name(hub_id) == name


def test_no_two_ids_have_one_name() -> None:
    conditions = [entry.condition for entry in list_conditions() if entry.condition]
    known = [one for condition in conditions for one in known_weights(condition)]
    ids = {one.source for one in known if not one.embedded}
    assert len({short_name(one) for one in ids}) == len(ids)
    for one in ids:
        found = find_control(short_name(one))
        assert found is not None
        assert found.source == one


def test_a_short_name_is_found_in_the_cache(
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--lllyasviel--control_v11p_sd15_canny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    random_controlnet.save_pretrained(repository / "snapshots" / "abc")
    found = open_control(get_condition("canny"), loaded_random_base, weights="v11p_canny")
    assert isinstance(found, ControlNetModel)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "v11p_canny",
            "it is lllyasviel/control_v11p_sd15_canny for SD 1.x, licence CreativeML OpenRAIL-M",
            "fetch it: cnctl models pull v11p_canny, or its config.json and "
            "diffusion_pytorch_model.safetensors from "
            "https://huggingface.co/lllyasviel/control_v11p_sd15_canny into a folder",
        ),
        ("v11p_cany", "no ControlNet 'v11p_cany'", "did you mean v11p_canny, "),
        ("canny", "no ControlNet 'canny'", "did you mean v10_canny, sd3_canny, v11p_canny?"),
        ("someone/nets", "no ControlNet 'someone/nets'", "cnctl models pull someone/nets"),
        ("quite-else", "no ControlNet 'quite-else'", "check the name, or see cnctl models"),
    ],
)
def test_what_is_missing_is_said_with_where_it_is(
    loaded_random_base: Base,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    message: str,
    hint: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match=message) as caught:
        open_control(get_condition("canny"), loaded_random_base, weights=name)
    assert hint in caught.value.hint


def test_near_names_hold_the_word() -> None:
    assert set(near_names("shuffle")) == {"v11e_shuffle"}
    assert near_names("") == []
