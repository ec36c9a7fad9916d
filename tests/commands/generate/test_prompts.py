"""The automatic prompt mode, captioners, and prompts by the line."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate import setup as generate_setup
from cnctl.commands.generate.generated import GeneratedImage
from cnctl.commands.generate.prompts import DEFAULT_PROMPT, gather_prompts, with_added
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.captioner import open_captioner
from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base

Make = Callable[..., list[GeneratedImage]]


@pytest.fixture
def make(random_base: Path, random_controlnet: ControlNetModel, tmp_path: Path) -> Make:
    base = tmp_path / "base"
    shutil.copytree(random_base, base)
    random_controlnet.save_pretrained(base / "controls" / "canny")
    pixels = np.full((64, 64, 3), 40, np.uint8)
    pixels[20:40, 30:50] = (230, 120, 40)
    Image.fromarray(pixels).save(tmp_path / "box.png")

    def run(**arguments: object) -> list[GeneratedImage]:
        shared = {"base": str(base), "out": tmp_path / "out", "settings": {"steps": 1}, "seed": 5}
        spec = [ControlSpec(condition="canny")]
        return list(generate(GenerateRequest(spec, [tmp_path / "box.png"], **(shared | arguments))))  # type: ignore[arg-type]

    return run


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


def test_captions_are_the_likeliest_words(loaded_random_base: Base, blip: Path) -> None:
    """As a loop says that takes the likeliest word each time."""
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    caption = open_captioner(str(blip), loaded_random_base)(image)
    processor = t.BlipProcessor.from_pretrained(blip)
    model = t.BlipForConditionalGeneration.from_pretrained(blip).eval()
    seen = processor(images=image, return_tensors="pt").pixel_values
    tokens = [2]
    with torch.no_grad():
        while len(tokens) < 41 and tokens[-1] != 3:
            logits = model(pixel_values=seen, input_ids=torch.tensor([tokens])).logits
            tokens.append(int(logits[0, -1].argmax()))
    assert caption == processor.decode(tokens, skip_special_tokens=True).strip()
    assert set(caption.split()) <= {"a", "red", "cat", "on", "grass", "house", "[UNK]", "[MASK]"}
    assert caption


@pytest.mark.slow
def test_a_base_may_bring_a_default_prompt_of_its_own(make: Make, tmp_path: Path) -> None:
    index = tmp_path / "base/model_index.json"
    content = json.loads(index.read_text())
    content["cnctl"] = content.get("cnctl", {}) | {"default_prompt": "a toy"}
    index.write_text(json.dumps(content))
    for number, (asked, said) in enumerate(
        [({}, "a toy"), ({"prompt_mode": "none"}, ""), ({"prompt": "a cat"}, "a cat")]
    ):
        (image,) = make(out=tmp_path / str(number), **asked)
        assert image.record.prompt == said


@pytest.mark.slow
def test_automatic_captions_a_first_image_and_generates_again(make: Make, blip: Path) -> None:
    options = {"captioner": str(blip), "added_prompt": "best quality", "count": 2}
    automatic = make(prompt_mode="automatic", **options)
    first = make(out=Path(automatic[0].path).parent / "first", added_prompt="best quality", count=2)
    for made, seen in zip(automatic, first, strict=True):
        assert seen.record.prompt == f"{DEFAULT_PROMPT}, best quality"
        caption = _caption(blip, pixels(seen.path))
        assert made.record.prompt == f"{caption}, best quality"
    again = make(out=Path(automatic[0].path).parent / "again", prompt=[automatic[0].record.prompt])
    difference = pixels(again[0].path).astype(int) - pixels(automatic[0].path)
    assert np.abs(difference).max() <= 1


@pytest.mark.slow
def test_captions_of_different_lengths_do_not_change_each_other(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A long one is read in two parts, the short one beside it in one, as they are alone."""
    captions = ["a cat", "a dog " * 40]

    def images(out: str, texts: list[str], **asked: object) -> list[np.ndarray]:
        said = iter(texts)
        monkeypatch.setattr(
            generate_setup, "open_captioner", lambda source, base: lambda image: next(said)
        )
        made = make(prompt_mode="automatic", out=tmp_path / out, **asked)
        assert [image.record.prompt for image in made] == texts
        return [pixels(image.path).astype(int) for image in made]

    together = images("together", captions, count=2, seed=5)
    for place, caption in enumerate(captions):
        (alone,) = images(f"alone{place}", [caption], seed=5 + place)
        assert np.abs(together[place] - alone).max() <= 1


def _caption(blip: Path, image: np.ndarray) -> str:
    processor = t.BlipProcessor.from_pretrained(blip)
    model = t.BlipForConditionalGeneration.from_pretrained(blip).eval()
    tokens = model.generate(
        **processor(images=image, return_tensors="pt"), max_new_tokens=40, do_sample=False
    )
    return processor.decode(tokens[0], skip_special_tokens=True).strip()


def test_each_prompt_makes_its_own_images_of_one_hint(make: Make) -> None:
    made = make(prompt=["a cat", "a house"], count=2)
    names = ["box-canny-p1-5", "box-canny-p1-6", "box-canny-p2-5", "box-canny-p2-6"]
    assert [image.path.stem for image in made] == names
    assert [image.record.prompt for image in made] == ["a cat"] * 2 + ["a house"] * 2
    assert {image.hint.name for image in made} == {"box-canny-hint.png"}


def test_prompts_come_from_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffa cat\n\n  a\u2028dog  \n", encoding="utf-8")
    assert gather_prompts(None, str(tmp_path / "prompts.txt")) == ["a cat", "a\u2028dog"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa bird\n")))
    assert gather_prompts(None, "-") == ["a bird"]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(CnctlError, match="standard input is closed"):
        gather_prompts(None, "-")
    assert gather_prompts("", None) == [""]
    assert gather_prompts(None, None) == []
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(CnctlError, match=r"empty.txt holds no prompt"):
        gather_prompts(None, str(tmp_path / "empty.txt"))
    with pytest.raises(CnctlError, match="cannot be read: no such file"):
        gather_prompts(None, str(tmp_path / "missing.txt"))
    with pytest.raises(CnctlError, match="both given"):
        gather_prompts("a", "b")


def test_what_is_added_follows_a_comma() -> None:
    assert with_added("a cat", "best quality") == "a cat, best quality"
    assert with_added("", "best quality") == "best quality"
    assert with_added("a cat", "") == "a cat"


def test_a_captioner_that_is_not_there(
    loaded_random_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingError, match="no captioner 'Salesforce/blip") as caught:
        open_captioner(None, loaded_random_base)
    assert caught.value.hint == "fetch it: cnctl models pull blip"
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CnctlError, match="is not a complete transformers model"):
        open_captioner(str(tmp_path), loaded_random_base)
