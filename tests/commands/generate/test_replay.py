"""An image says how it was made, and is made again from what it says."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate.events import Event
from cnctl.commands.generate.generated import GeneratedImage
from cnctl.commands.generate.record import hint_sha256
from cnctl.commands.generate.replay import replay
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.events import Note
from cnctl.errors import CnctlError, MissingError
from cnctl.images import read_hint
from cnctl.models.locate import locate_base
from cnctl.tensorfiles.digest import sha256

Make = Callable[..., list[GeneratedImage]]
CANNY = [ControlSpec(condition="canny")]


@pytest.fixture
def make(
    random_base: Path,
    random_controlnet: ControlNetModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """Generate from photo.png in the working folder, on a base there, into out."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(random_base, tmp_path / "base")
    random_controlnet.save_pretrained(tmp_path / "base/controls/canny")
    random_controlnet.save_pretrained(tmp_path / "runs/control")
    photo = np.random.default_rng(0).integers(0, 256, (70, 64, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")

    def run(**arguments: object) -> list[GeneratedImage]:
        shared = {"images": [tmp_path / "photo.png"], "base": str(tmp_path / "base"), "prompt": "a"}
        given = shared | {"out": tmp_path / "out", "settings": {"steps": 2}, "controls": CANNY}
        return list(generate(GenerateRequest(**(given | arguments))))  # type: ignore[arg-type]

    return run


def again(path: Path, out: Path, **changes: object) -> tuple[GeneratedImage, list[str]]:
    """What `--from` makes, and what is noted."""
    events: list[Event] = []
    request = replay(path, GenerateRequest(out=out, **changes))  # type: ignore[arg-type]
    (made,) = generate(request, on_event=events.append)
    return made, [event.text for event in events if isinstance(event, Note)]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


def test_the_record_names_all_that_made_an_image(make: Make, tmp_path: Path) -> None:
    (made,) = make(weights=["runs/control"])
    record = json.loads(Image.open(made.path).text["cnctl"])
    assert str(tmp_path) not in json.dumps(record)
    assert record["base_sha256"] == sha256(
        tmp_path / "base/unet/diffusion_pytorch_model.safetensors"
    )
    (control,) = record["controls"]
    weights = tmp_path / "runs/control/diffusion_pytorch_model.safetensors"
    assert control["weights"] == {
        "name": weights.name,
        "sha256": sha256(weights),
        "given": "control",
    }
    assert control["plugin"].startswith("cnctl ")
    assert control["source"] == {"name": "photo.png", "sha256": sha256(tmp_path / "photo.png")}
    stored = read_hint(tmp_path / "out" / control["hint"]["name"], channels=3)
    assert control["hint"]["sha256"] == hint_sha256(stored)
    assert {"torch", "diffusers", "transformers"} == set(record["libraries"])


def test_no_metadata_says_nothing(make: Make) -> None:
    (made,) = make(private=True)
    assert Image.open(made.path).text == {}
    with pytest.raises(CnctlError, match=r"photo-canny-0.png does not say how it was made"):
        replay(made.path, GenerateRequest())


def test_an_image_is_made_again_bit_for_bit_also_out_of_a_batch(make: Make, tmp_path: Path) -> None:
    controls = [*CANNY, ControlSpec(condition="canny", scale=0.5, end=0.5, mode="prompt")]
    _, _, third = make(
        controls=controls, count=3, seed=7, prompt=["a cat"], negative_prompt="blurry"
    )
    made, notes = again(third.path, tmp_path / "again")
    assert made.path == tmp_path / "again/photo-canny+canny-9.png"
    assert np.array_equal(pixels(made.path), pixels(third.path))
    elsewhere = {"controls": (), "base": ""}
    assert replace(made.record, **elsewhere) == replace(third.record, **elsewhere)
    assert notes == []


@pytest.mark.slow
def test_one_thing_can_be_changed(make: Make, tmp_path: Path) -> None:
    (first,) = make(seed=3, settings={"steps": 2, "control_scale": 0.7})
    (expected,) = make(
        seed=3, prompt="b", out=tmp_path / "b", settings={"steps": 2, "control_scale": 0.7}
    )
    made, _ = again(first.path, tmp_path / "c", prompt="b")
    assert np.array_equal(pixels(made.path), pixels(expected.path))
    weaker, _ = again(first.path, tmp_path / "d", settings={"control_scale": 0.1})
    assert weaker.record.controls[0].scale == 0.1
    assert weaker.record.seed == 3
    Image.fromarray(255 - pixels(tmp_path / "photo.png")).save(tmp_path / "other.png")
    other, _ = again(first.path, tmp_path / "e", images=[tmp_path / "other.png"])
    assert other.path.name == "other-canny-3.png"
    assert other.record.controls[0].scale == 0.7


@pytest.mark.slow
def test_an_edit_is_made_again(make: Make, tmp_path: Path) -> None:
    mask = np.zeros((70, 64), np.uint8)
    mask[20:50, 10:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edit = {"image": tmp_path / "photo.png", "mask": tmp_path / "mask.png", "images": ()}
    (first,) = make(**edit, out=tmp_path)
    made, _ = again(first.path, tmp_path / "again")
    assert np.array_equal(pixels(made.path), pixels(first.path))


def test_says_what_is_missing_or_different(make: Make, tmp_path: Path) -> None:
    (first,) = make(weights=["runs/control"])
    with pytest.raises(MissingError, match="no ControlNet 'control'"):
        again(first.path, tmp_path / "again")
    shutil.copytree(tmp_path / "runs/control", tmp_path / "out/control")
    Image.fromarray(np.roll(pixels(first.hint), 1)).save(first.hint)
    _, notes = again(first.path, tmp_path / "again")
    assert notes == ["photo-canny-hint.png is not what it was the first time"]
    first.hint.unlink()
    with pytest.raises(MissingError, match="made from photo-canny-hint"):
        again(first.path, tmp_path / "again")


@pytest.mark.slow
def test_the_embedded_base_is_found_by_name(tmp_path: Path) -> None:
    cat = Path(__file__).parents[3] / "examples/images/cat.jpg"
    request = GenerateRequest(
        CANNY, [cat], "a cat", base="tiny", out=tmp_path, settings={"steps": 1}
    )
    (first,) = generate(request)
    made, notes = again(first.path, tmp_path / "again")
    assert np.array_equal(pixels(made.path), pixels(first.path))
    assert not [note for note in notes if "first time" in note]
    weights = locate_base("tiny").path / "controls/canny/diffusion_pytorch_model.safetensors"
    assert made.record.controls[0].weights.sha256 == sha256(weights)


def test_a_hint_is_never_replaced_by_another(make: Make, tmp_path: Path) -> None:
    """Another photograph of the same name; the image of the first can still be made again."""
    (first,) = make(seed=0)
    box = np.full((70, 64, 3), 40, np.uint8)
    box[20:40, 10:50] = 230
    Image.fromarray(box).save(tmp_path / "photo.png")
    (second,) = make(seed=1)
    assert first.hint.name == "photo-canny-hint.png"
    assert second.hint == first.hint.with_name(
        f"photo-canny-hint-{hint_sha256(read_hint(second.hint, channels=3))[:8]}.png"
    )
    for image in (first, second):
        repeated, notes = again(image.path, tmp_path / image.path.stem)
        assert np.array_equal(pixels(repeated.path), pixels(image.path))
        assert notes == []
    (kept,) = make(seed=1, resume=True)
    assert kept.hint == second.hint


@pytest.mark.slow
def test_each_size_of_a_sweep_keeps_its_hint(make: Make, tmp_path: Path) -> None:
    made = make(seed=0, sweep={"resolution": [64, 128]}, overwrite=True)
    assert len({image.hint for image in made}) == 2
    for image in made:
        repeated, _ = again(image.path, tmp_path / image.path.stem)
        assert np.array_equal(pixels(repeated.path), pixels(image.path))


@pytest.mark.slow
def test_a_hint_is_found_by_its_content(make: Make, tmp_path: Path) -> None:
    (first,) = make(seed=0)
    first.hint.rename(first.hint.with_name("edges of the photo.png"))
    repeated, _ = again(first.path, tmp_path / "again")
    assert np.array_equal(pixels(repeated.path), pixels(first.path))


@pytest.mark.slow
def test_a_config_is_given_for_a_file_without_one(make: Make, tmp_path: Path) -> None:
    """The file does not say how many attention heads there are."""
    folder = tmp_path / "runs/control"
    file = shutil.copyfile(
        folder / "diffusion_pytorch_model.safetensors", tmp_path / "x.safetensors"
    )
    with pytest.raises(CnctlError, match="the number of attention heads is not") as raised:
        make(weights=[str(file)])
    assert "--config" in raised.value.hint
    config = shutil.copyfile(folder / "config.json", tmp_path / "x.json")
    asked = {"weights": [str(file)], "configs": [config]}
    (made,), (expected,) = make(**asked), make(weights=[str(folder)], out=tmp_path / "folder")
    assert np.array_equal(pixels(made.path), pixels(expected.path))
    assert np.array_equal(pixels(again(made.path, tmp_path / "again")[0].path), pixels(made.path))
    config.unlink()
    with pytest.raises(MissingError, match=r"was made from x\.json, which is neither beside it"):
        again(made.path, tmp_path / "again")
    with pytest.raises(CnctlError, match="2 --config for 1 --cond"):
        make(configs=["a", "b"])
