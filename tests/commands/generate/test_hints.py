"""What each control of a run reads: the image, its own file or folder, a ready hint or not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate.controls import parse_control
from cnctl.commands.generate.generated import GeneratedImage
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.generate.sources import source_of
from cnctl.commands.shared.events import FailedImage
from cnctl.errors import CnctlError

Make = Callable[..., list[GeneratedImage]]


@pytest.fixture
def make(
    random_base: Path,
    random_controlnet: ControlNetModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """Generate in one step in a folder with photos/a.png and photos/b.png."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(random_base, "base")
    random_controlnet.save_pretrained("base/controls/canny")
    Path("photos").mkdir()
    for number, name in enumerate("ab"):
        small = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 64), 0).save(f"photos/{name}.png")

    def run(*controls: str, **arguments: object) -> list[GeneratedImage]:
        hooks = {name: arguments.pop(name) for name in [*arguments] if name.startswith("on_")}
        shared = {"base": "base", "settings": {"steps": 1}, "prompt": "a", "seed": 0}
        return list(generate(GenerateRequest(controls, **(shared | arguments)), **hooks))  # type: ignore[arg-type]

    return run


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


@pytest.mark.slow
def test_one_source_is_a_hint_and_the_other_a_photograph(make: Make) -> None:
    (both,) = make("canny", "canny", images=["photos/a.png"], out="both")
    mixed = make(f"canny:hint={both.hint}", "canny", images=["photos/a.png"], out="mixed")
    assert np.array_equal(pixels(mixed[0].path), pixels(both.path))
    assert sorted(path.name for path in Path("mixed").iterdir()) == [
        mixed[0].path.name,
        mixed[0].path.name.replace("-0.png", "-hint-2.png"),
    ]
    assert mixed[0].hint == both.hint
    with pytest.raises(CnctlError, match="names no source"):
        parse_control("canny:hint=")


@pytest.mark.slow
def test_a_folder_holds_a_hint_for_each_image(make: Make) -> None:
    plain = make("canny", images=["photos"], out="plain")
    Path("hints").mkdir()
    shutil.copy(plain[0].hint, "hints/a-canny.png")
    shutil.copy(plain[1].hint, "hints/b.png")
    ready = make("canny:hint=hints", images=["photos"], out="ready")
    for image, expected in zip(ready, plain, strict=True):
        assert np.array_equal(pixels(image.path), pixels(expected.path))
    Path("hints/b.png").unlink()
    events: list[object] = []
    (one,) = make("canny:hint=hints", images=["photos"], out="one", on_event=events.append)
    assert one.path.name == "a-canny-0.png"
    failed = [event.error for event in events if isinstance(event, FailedImage)]
    assert failed == ["photos/b.png: hints has no file with the name of b.png"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / "hints" / folder).mkdir(parents=True)
        (tmp_path / "hints" / folder / "a.png").touch()
    control = ControlSpec(condition="canny", source=tmp_path / "hints")
    assert source_of(control, Path("photos/y/a.jpg")) == tmp_path / "hints/y/a.png"
    with pytest.raises(CnctlError, match=r"has several files with the name of a.jpg"):
        source_of(control, Path("photos/a.jpg"))
    with pytest.raises(CnctlError, match="is a folder"):
        source_of(control, None)
