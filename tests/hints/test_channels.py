"""Nothing assumes three hint channels: conditions of one and of six train and generate."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from cnctl.cli import app
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.train.run import TrainRequest, train
from cnctl.images import read_image
from cnctl.models.base import Base
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.registry import get_condition

PLUGIN = """
import dataclasses
from cnctl.plugin import Condition

def load_gray(device):
    def detect(image):
        return image[..., 1].copy()
    return detect

def load_six(device):
    import numpy as np
    def detect(image):
        return np.concatenate([image, 255 - image], axis=2)
    return detect

def load_two(device):
    def detect(image):
        return image[..., :2].copy()
    return detect

gray = Condition(name="gray", summary="Brightness", load_detector=load_gray, hint_channels=1,
                 metric="rmse")
six = dataclasses.replace(gray, name="six", summary="Twice", load_detector=load_six,
                          hint_channels=6)
two = dataclasses.replace(gray, name="two", summary="Part", load_detector=load_two,
                          hint_channels=2)
"""


@pytest.fixture
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    metadata = folder / "channels-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "channels_plugin.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: channels\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[cnctl.conditions]\n"
        + "".join(f"{name} = channels_plugin:{name}\n" for name in ("gray", "six", "two"))
    )
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("_plugin")
@pytest.mark.parametrize(
    ("name", "channels", "suffix"),
    [pytest.param("gray", 1, ".png", marks=pytest.mark.slow), ("six", 6, ".npz")],
)
def test_trains_and_generates(
    name: str, channels: int, suffix: str, random_base: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(photo)
    run = tmp_path / "run"
    asked = TrainRequest(
        condition=get_condition(name),
        data="scenes:4",
        base=str(random_base),
        settings={"steps": 2, "batch_size": 2, "resolution": 64, "preview_every": 0},
    )
    train(asked, run)
    with safe_open(next((run / "controlnet").glob("*.safetensors")), "pt") as weights:
        first = weights.get_slice("controlnet_cond_embedding.conv_in.weight").get_shape()
    assert first[1] == channels

    spec = [ControlSpec(condition=name)]
    one = {"base": str(random_base), "weights": [str(run)], "settings": {"steps": 2}}
    made = next(generate(GenerateRequest(spec, [photo], "a", out=tmp_path, **one)))  # type: ignore[arg-type]
    assert made.hint.suffix == suffix
    again = next(
        generate(
            GenerateRequest(spec, [made.hint], "a", ready_hint=True, out=tmp_path / "again", **one)
        )  # type: ignore[arg-type]
    )
    assert np.array_equal(np.asarray(Image.open(made.path)), np.asarray(Image.open(again.path)))


@pytest.mark.usefixtures("_plugin")
@pytest.mark.parametrize(("name", "channels"), [("two", 2), ("six", 6)])
def test_a_hint_that_is_no_picture_shows_in_grid_gallery_and_info(
    name: str, channels: int, random_base: Path, loaded_random_base: Base, tmp_path: Path
) -> None:
    network = build_controlnet(loaded_random_base.denoiser, hint_channels=channels)
    network.save_pretrained(tmp_path / "control")
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    words = f"generate {tmp_path}/photo.png --cond {name} -p a --base {random_base} --steps 1 "
    words += f"--control {tmp_path}/control -o {tmp_path}/out --grid --gallery {tmp_path}/page.html"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    visible = np.zeros_like(photo)  # the first three channels
    visible[..., : min(channels, 3)] = photo[..., :channels][..., :3]
    sheet = np.asarray(Image.open(tmp_path / "out" / f"photo-{name}-grid.png"))
    cells = np.lib.stride_tricks.sliding_window_view(sheet, visible.shape)
    assert (cells == visible).all(axis=(3, 4, 5)).any()
    inline = re.search(r"data:image/png;base64,([^\"]+)", (tmp_path / "page.html").read_text())
    assert inline
    assert np.array_equal(read_image(base64.b64decode(inline[1]), name="hint"), visible)
    words = f"annotate {tmp_path}/photo.png --cond {name} -o {tmp_path}/hints"
    made = CliRunner().invoke(app, words.split()).stdout.split()
    told = CliRunner().invoke(app, ["info", *made, "--json"])
    assert json.loads(told.stdout)["metadata"]["cnctl"]["condition"] == name


@pytest.mark.slow
def test_masked_hints_train(random_base: Path, tmp_path: Path) -> None:
    asked = TrainRequest(
        condition="inpaint",
        data="scenes:10",
        base=str(random_base),
        settings={"steps": 2, "batch_size": 2, "resolution": 64, "preview_steps": 1},
    )
    done = train(asked, tmp_path / "run")
    assert done.metric == "kept_rmse"
    assert 0 < done.fidelity_after < 1


@pytest.mark.slow
def test_the_colours_below_a_mask_do_not_matter(
    random_base: Path, random_controlnet: ControlNetModel, tmp_path: Path
) -> None:
    random_controlnet.save_pretrained(tmp_path / "control")
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    picture[..., 3] = 255 * (rng.random((64, 64)) > 0.5)
    below, above = picture.copy(), picture.copy()
    below[picture[..., 3] == 0, :3] = 0
    above[picture[..., 3] > 0, :3] = 0

    def made(hint: np.ndarray, name: str) -> np.ndarray:
        Image.fromarray(hint).save(tmp_path / name)
        spec = [ControlSpec(condition="inpaint", source=tmp_path / name)]
        one = {"weights": [str(tmp_path / "control")], "settings": {"steps": 1}}
        images = generate(
            GenerateRequest(
                spec, [], "a", base=str(random_base), ready_hint=True, out=tmp_path / "out", **one
            )
        )
        return np.asarray(Image.open(next(images).path))

    image = made(picture, "a.png")
    assert np.array_equal(image, made(below, "b.png"))
    assert not np.array_equal(image, made(above, "c.png"))
