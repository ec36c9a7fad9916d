"""Generation as a job, on a base of random weights."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate import batches
from cnctl.commands.generate.controls import parse_control, parse_controls
from cnctl.commands.generate.events import Event, Preview
from cnctl.commands.generate.prompts import DEFAULT_PROMPT, choose_prompts
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.generate.step_sheets import sheet_path
from cnctl.commands.shared.events import Note, Stage
from cnctl.commands.shared.report.sheets import GAP
from cnctl.errors import CnctlError, DeviceError, MissingError, OutputError

CANNY = [ControlSpec(condition="canny")]


@pytest.fixture(scope="module")
def base(
    random_base: Path, random_controlnet: ControlNetModel, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The random base with its own ControlNet for canny, as the embedded base has."""
    folder = tmp_path_factory.mktemp("bases") / "with-control"
    shutil.copytree(random_base, folder)
    random_controlnet.save_pretrained(folder / "controls" / "canny")
    return str(folder)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.full((80, 120, 3), 40, np.uint8)
    pixels[20:60, 30:90] = (230, 120, 40)
    path = tmp_path_factory.mktemp("photos") / "box.png"
    Image.fromarray(pixels).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("canny", ControlSpec(condition="canny")),
        ("canny:a.png", ControlSpec(condition="canny", source=Path("a.png"))),
        ("canny::0.8", ControlSpec(condition="canny", scale=0.8)),
        ("canny:C:/a.png:.5", ControlSpec(condition="canny", source=Path("C:/a.png"), scale=0.5)),
        ("canny:hint=a.png", ControlSpec(condition="canny", source=Path("a.png"), ready=True)),
        (
            "canny:hint=C:/a.png:.5",
            ControlSpec(condition="canny", source=Path("C:/a.png"), ready=True, scale=0.5),
        ),
        (
            "canny:a.png::0-0.5",
            ControlSpec(condition="canny", source=Path("a.png"), start=0.0, end=0.5),
        ),
        (
            "depth:x/y.jpg:1.5:0.1-0.6",
            ControlSpec(condition="depth", source=Path("x/y.jpg"), scale=1.5, start=0.1, end=0.6),
        ),
    ],
)
def test_parses_cond(text: str, expected: ControlSpec) -> None:
    assert parse_control(text) == expected


@pytest.mark.parametrize("scale", ["-1", "1.", "0,5", "1e3", "0-0.5"])
def test_a_scale_that_is_not_a_number_is_named(scale: str) -> None:
    with pytest.raises(CnctlError, match=f"the scale is '{re.escape(scale)}'"):
        parse_control(f"canny:f.png:{scale}")


@pytest.mark.parametrize("part", ["0.5", "0-1-2", "-1-0.5", "0,1-0,5"])
def test_an_interval_that_is_not_one_is_named(part: str) -> None:
    with pytest.raises(CnctlError, match=f"the interval is '{re.escape(part)}'"):
        parse_control(f"canny:f.png:0.8:{part}")


def test_flags_are_given_once_for_all_controls_or_once_for_each() -> None:
    two = ["canny", "canny::0.5"]
    for_all = parse_controls(two, modes=["prompt"], step_scales=["1,0.5"])
    assert [spec.mode for spec in for_all] == ["prompt", "prompt"]
    assert [spec.step_scales for spec in for_all] == [(1, 0.5), (1, 0.5)]
    each = parse_controls(two, residual_scales=["1,2", ""])
    assert [spec.residual_scales for spec in each] == [(1, 2), ()]
    assert [spec.scale for spec in each] == [None, 0.5]
    with pytest.raises(CnctlError, match="2 --control-mode for 3 --cond"):
        parse_controls(["canny"] * 3, modes=["prompt", "balanced"])
    with pytest.raises(CnctlError, match="--step-scales '1;2' is not a list of numbers"):
        parse_controls(["canny"], step_scales=["1;2"])


def test_a_control_acts_as_its_flags_say(base: str, photo: Path, tmp_path: Path) -> None:
    """Scales of one step and of no residual leave the base alone; a mode changes the image."""

    def image(name: str, **acts: object) -> np.ndarray:
        spec = [ControlSpec(condition="canny", **acts)]  # type: ignore[arg-type]
        made = generate(
            GenerateRequest(
                spec, [photo], "a", out=tmp_path / name, base=base, settings={"steps": 2}
            )
        )
        return pixels(next(made).path)

    plain = image("plain", scale=0.0)
    assert np.array_equal(image("residuals", residual_scales=(0.0,) * 9), plain)
    first_half = image("steps", step_scales=(1.0, 0.0))
    assert np.array_equal(first_half, image("end", end=0.5))
    assert not np.array_equal(first_half, plain)
    assert not np.array_equal(image("balanced"), image("prompt", mode="prompt"))


def test_prompt_modes_of_section_4_1() -> None:
    assert choose_prompts([], "none") == [""]
    assert choose_prompts([], None) == choose_prompts([], "automatic") == [DEFAULT_PROMPT]
    assert choose_prompts(["a cat", "a dog"], None) == ["a cat", "a dog"]
    with pytest.raises(CnctlError, match="needs a prompt"):
        choose_prompts([], "user")
    with pytest.raises(CnctlError, match="takes no prompt"):
        choose_prompts(["a cat"], "automatic")


def test_writes_images_with_their_hint_and_settings(base: str, photo: Path, tmp_path: Path) -> None:
    made = list(
        generate(
            GenerateRequest(
                CANNY, [photo], "a box", out=tmp_path, base=base, count=2, settings={"steps": 2}
            )
        )
    )
    assert [image.path.name for image in made] == ["box-canny-0.png", "box-canny-1.png"]
    assert [image.record.seed for image in made] == [0, 1]
    hint = pixels(made[0].hint)
    assert set(np.unique(hint)) == {0, 255}
    # The short side is the base's 64 px; the long one keeps 120 / 80, to a multiple of 8.
    assert hint.shape[:2] == pixels(made[0].path).shape[:2] == (64, 96)
    chunks = Image.open(made[1].path).text
    record = json.loads(chunks["cnctl"])
    assert record["seed"] == 1
    assert record["prompt"] == "a box"
    assert record["controls"][0]["condition"] == "canny"
    assert "Steps: 2, Sampler: DDIM, CFG scale: 9.0, Seed: 1, Size: 96x64" in chunks["parameters"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_web_interfaces_are_told_what_they_would_need(
    base: str, photo: Path, tmp_path: Path
) -> None:
    def parameters(**settings: Any) -> list[str]:
        settings = {"steps": 1, "scheduler": "dpm_solver_multistep"} | settings
        (made,) = generate(
            GenerateRequest(
                CANNY,
                [photo],
                "a (b:2)",
                out=tmp_path,
                base=base,
                settings=settings,
                overwrite=True,
            )
        )
        return Image.open(made.path).text["parameters"].splitlines()

    plain = parameters()
    assert plain[0] == r"a \(b:2\)", "brackets are letters there, too"
    assert plain[1].startswith("Steps: 1, Sampler: DPM++ 2M,")
    assert "Clip skip" not in plain[1]
    assert re.search(
        r'"Module: canny, Model: with-control_canny \[[0-9a-f]{8}\], Weight: 1', plain[1]
    )
    assert "Schedule type: Karras" in parameters(scheduler="DPM++ 2M Karras")[1]
    weighed = parameters(emphasis=True, clip_skip=2)
    assert weighed[0] == "a (b:2)"
    assert "Clip skip: 2" in weighed[1]
    with pytest.raises(CnctlError, match=r"--clip-skip 3: .* has layers 1 to 2 to read"):
        parameters(clip_skip=3)


def test_an_image_depends_on_its_seed_alone(base: str, photo: Path, tmp_path: Path) -> None:
    together = list(
        generate(
            GenerateRequest(
                CANNY, [photo], "a", out=tmp_path / "a", base=base, count=3, settings={"steps": 2}
            )
        )
    )
    alone = next(
        generate(
            GenerateRequest(
                CANNY, [photo], "a", out=tmp_path / "b", base=base, seed=2, settings={"steps": 2}
            )
        )
    )
    difference = np.abs(pixels(together[2].path).astype(int) - pixels(alone.path))
    assert difference.max() <= 1  # a batch of another size may round a level differently
    assert np.abs(pixels(together[0].path).astype(int) - pixels(alone.path)).max() > 1


def test_the_default_seed_never_replaces_an_image(base: str, photo: Path, tmp_path: Path) -> None:
    def once(**more: object) -> Path:
        return next(
            generate(
                GenerateRequest(
                    CANNY, [photo], "a", out=tmp_path, base=base, settings={"steps": 1}, **more
                )
            )  # type: ignore[arg-type]
        ).path

    assert [once().name, once().name] == ["box-canny-0.png", "box-canny-1.png"]
    with pytest.raises(OutputError, match="exists"):
        once(seed=0)
    assert once(seed=0, overwrite=True).name == "box-canny-0.png"


def test_a_ready_hint_is_taken_as_it_is(base: str, photo: Path, tmp_path: Path) -> None:
    first = next(
        generate(
            GenerateRequest(CANNY, [photo], "a", out=tmp_path, base=base, settings={"steps": 2})
        )
    )
    again = next(
        generate(
            GenerateRequest(
                CANNY,
                [first.hint],
                "a",
                ready_hint=True,
                out=tmp_path / "again",
                base=base,
                settings={"steps": 2},
            )
        )
    )
    assert np.array_equal(pixels(first.path), pixels(again.path))


@pytest.mark.slow
def test_two_controls_differ_from_one(base: str, photo: Path, tmp_path: Path) -> None:
    one = next(
        generate(
            GenerateRequest(CANNY, [photo], "a", out=tmp_path, base=base, settings={"steps": 2})
        )
    )
    two = next(
        generate(
            GenerateRequest(CANNY * 2, [photo], "a", out=tmp_path, base=base, settings={"steps": 2})
        )
    )
    assert two.path.name == "box-canny+canny-0.png"
    assert len(two.record.controls) == 2
    assert not np.array_equal(pixels(one.path), pixels(two.path))


def test_says_where_to_get_what_is_missing(random_base: Path, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no ControlNet for canny") as caught:
        next(generate(GenerateRequest(CANNY, [photo], "a", out=tmp_path, base=str(random_base))))
    assert "cnctl train --cond canny" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_refuses_a_control_of_another_family(base: str, photo: Path, tmp_path: Path) -> None:
    other = ControlNetModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        conditioning_embedding_out_channels=(8, 8),
    )
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(CnctlError, match=r"this ControlNet was made for .*; the base is"):
        next(
            generate(
                GenerateRequest(
                    CANNY, [photo], "a", out=tmp_path, base=base, weights=[str(tmp_path / "other")]
                )
            )
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "--count is 0; it must be at least 1"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
        ({"out": Path("a.jpg")}, "images are PNG"),
        ({"out": Path("a.png"), "count": 2}, "one file for several"),
        ({"settings": {"steps": 0}}, "--steps is 0; it must be at least 1"),
        ({"settings": {"control_start": 0.9, "control_end": 0.1}}, "cannot control from 0.9"),
        ({"settings": {"control_mode": "guess"}}, "must be balanced, prompt or control"),
        ({"weights": ["a", "b"]}, "2 --control for 1 --cond"),
        ({"options": ["low=1"]}, "no option 'low'"),
    ],
)
def test_bad_arguments_are_one_sentence(
    base: str, photo: Path, arguments: dict, message: str
) -> None:
    with pytest.raises(CnctlError, match=message):
        next(generate(GenerateRequest(CANNY, [photo], "a", base=base, **arguments)))


@pytest.mark.slow
def test_a_sheet_shows_what_is_coming(base: str, photo: Path, tmp_path: Path) -> None:
    """Its cells are the estimates, and the image, which is the same without it."""
    events: list[Event] = []
    shared = {"base": base, "count": 2, "settings": {"steps": 5}}
    request = GenerateRequest(CANNY, [photo], "a", out=tmp_path / "with", save_steps=2, **shared)
    made = list(generate(request, on_event=events.append))
    seen = {event.step: event.images for event in events if isinstance(event, Preview)}
    plain = list(generate(GenerateRequest(CANNY, [photo], "a", out=tmp_path / "plain", **shared)))
    assert [*seen] == [2, 4]
    for place, (image, same) in enumerate(zip(made, plain, strict=True)):
        assert np.array_equal(pixels(image.path), pixels(same.path))
        sheet = pixels(sheet_path(image.path))
        height, width = pixels(image.path).shape[:2]
        cells = [
            sheet[GAP : GAP + height, left : left + width]
            for left in range(GAP, sheet.shape[1], width + GAP)
        ]
        pictures = [seen[2][place], seen[4][place], pixels(image.path)]
        assert all(map(np.array_equal, cells, pictures))
    with pytest.raises(CnctlError, match="--save-steps is 0"):
        next(generate(replace(request, save_steps=0)))


@pytest.mark.slow
def test_less_memory_makes_the_same_images(base: str, photo: Path, tmp_path: Path) -> None:
    """Prompts of different lengths among them, with and without guidance."""
    shared = {"base": base, "settings": {"steps": 2}, "sweep": {"guidance_scale": [1.0, 5.0]}}
    prompts = ["a", "b " * 60]

    def images(out: str, **more: object) -> list[np.ndarray]:
        request = GenerateRequest(
            CANNY, [photo], prompts, out=tmp_path / out, size=(64, 64), **shared, **more
        )
        return [pixels(image.path) for image in generate(request)]

    plain = images("plain", batch_size=1, negative_prompt="c " * 90)
    less = images("less", low_memory=True, negative_prompt="c " * 90)
    assert len(plain) == 4
    assert all(map(np.array_equal, plain, less))


def test_too_little_memory_is_told_with_what_takes_less(
    base: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(batches, "sample", sample)
    request = GenerateRequest(CANNY, [photo], "a", out=tmp_path, base=base)
    with pytest.raises(DeviceError, match="out of memory for 1 of 96x64 pixels at once") as caught:
        next(generate(request))
    assert caught.value.hint.startswith("try --low-memory, or --batch-size 1, or a smaller")
    with pytest.raises(DeviceError) as caught:
        next(generate(replace(request, low_memory=True, overwrite=True)))
    assert "--low-memory" not in caught.value.hint


class OtherRun:
    """Writes its files as soon as this run denoises, as another process might."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        elif isinstance(event, Stage):
            for path in self.paths:
                path.write_bytes(b"theirs")

    def has_all(self) -> bool:
        return all(path.read_bytes() == b"theirs" for path in self.paths)


def test_an_image_whose_name_another_run_takes_gets_the_next_free_seed(
    base: str, photo: Path, tmp_path: Path
) -> None:
    request = GenerateRequest(CANNY, [photo], "a", base=base, count=3, settings={"steps": 1})
    other = OtherRun(tmp_path / "box-canny-1.png")
    made = list(generate(replace(request, out=tmp_path), on_event=other))
    assert [image.path.name for image in made] == [f"box-canny-{seed}.png" for seed in (0, 2, 3)]
    assert [image.record.seed for image in made] == [0, 2, 3]
    assert other.has_all()
    assert (
        len([text for text in other.notes if "box-canny-1.png was written by another run" in text])
        == 1
    )
    (same,) = generate(replace(request, out=tmp_path / "own", count=1, seed=3))
    assert np.array_equal(pixels(made[2].path), pixels(same.path))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("box-canny-4.png", {"seed": 4}),
        ("one.png", {"out": "one.png"}),
        ("same.png", {"name": "same"}),
    ],
)
def test_a_name_that_was_asked_for_and_is_taken_meanwhile_is_an_error(
    base: str, photo: Path, tmp_path: Path, name: str, asked: dict[str, Any]
) -> None:
    asked = {"out": ".", **asked}
    asked["out"] = tmp_path / asked["out"]
    request = GenerateRequest(CANNY, [photo], "a", base=base, settings={"steps": 1}, **asked)
    other = OtherRun(tmp_path / name)
    with pytest.raises(OutputError, match=rf"{name} exists"):
        list(generate(request, on_event=other))
    assert other.has_all()


@pytest.mark.slow
def test_a_sheet_of_another_run_is_never_replaced(base: str, photo: Path, tmp_path: Path) -> None:
    """Its image is another run's too, even if it is not there yet."""
    request = GenerateRequest(
        CANNY, [photo], "a", out=tmp_path, base=base, save_steps=1, settings={"steps": 2}
    )
    other = OtherRun(tmp_path / "box-canny-0-steps.png")
    other.paths[0].write_bytes(b"theirs")
    (made,) = generate(request, on_event=other)
    assert made.path.name == "box-canny-1.png"
    late = OtherRun(tmp_path / "box-canny-2.png")  # taken after this run's sheet was begun
    (made,) = generate(request, on_event=late)
    assert made.path.name == "box-canny-3.png"
    assert not (tmp_path / "box-canny-2-steps.png").exists()
    assert other.has_all()
    assert late.has_all()
    with pytest.raises(OutputError, match=r"box-canny-0-steps.png exists"):
        next(generate(replace(request, seed=0)))


def test_a_resumed_run_keeps_what_another_one_makes_meanwhile(
    base: str, photo: Path, tmp_path: Path
) -> None:
    request = GenerateRequest(
        CANNY, [photo], "a", out=tmp_path, base=base, resume=True, settings={"steps": 1}
    )
    by_others: list[bytes] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Stage) and not by_others:
            (made,) = generate(request)
            by_others.append(made.path.read_bytes())

    (made,) = generate(request, on_event=on_event)
    assert made.path.read_bytes() == by_others[0]


def test_the_hint_of_another_image_of_the_same_name_is_kept(
    base: str, photo: Path, tmp_path: Path
) -> None:
    other = photo.with_name("other") / photo.name
    other.parent.mkdir()
    Image.fromarray(pixels(photo)[::-1, ::2].copy()).save(other)
    request = GenerateRequest(CANNY, [photo], "a", out=tmp_path, base=base, settings={"steps": 1})
    hints = [next(generate(replace(request, images=[each]))).hint for each in (photo, other, photo)]
    assert hints[0] == hints[2] != hints[1]


@pytest.mark.parametrize("folder", ["tmp.AbC123", "out.v2", "folder.png", "folder.jpg"])
def test_a_folder_is_a_folder_whatever_its_name(
    base: str, photo: Path, tmp_path: Path, folder: str
) -> None:
    if not folder.startswith("out"):
        (tmp_path / folder).mkdir()
    request = GenerateRequest(
        CANNY, [photo], "a", out=tmp_path / folder, base=base, settings={"steps": 1}
    )
    (made,) = generate(request)
    assert made.path == tmp_path / folder / "box-canny-0.png"
    assert made.hint == tmp_path / folder / "box-canny-hint.png"


@pytest.mark.parametrize("name", ["one.jpg", "one.JPEG", "one.avif", "one.npz"])
def test_other_image_formats_are_refused(base: str, photo: Path, tmp_path: Path, name: str) -> None:
    request = GenerateRequest(CANNY, [photo], "a", out=tmp_path / name, base=base)
    with pytest.raises(CnctlError, match="images are PNG"):
        next(generate(request))


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (ControlSpec(condition="canny", start=0.5, end=0.6), "canny acts in none of the 2 steps"),
        (ControlSpec(condition="canny", region="black.png"), "the region of canny is black"),
    ],
)
def test_a_control_without_effect_is_said(
    control: ControlSpec, said: str, base: str, photo: Path, tmp_path: Path
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    if control.region:
        control = replace(control, region=tmp_path / control.region)
    notes: list[str] = []
    request = GenerateRequest(
        [control], [photo], "a", out=tmp_path / "out", base=base, settings={"steps": 2}
    )
    list(generate(request, on_event=lambda event: notes.append(getattr(event, "text", ""))))
    assert any(said in note for note in notes)


@pytest.mark.slow
def test_a_ready_hint_of_black_lines_is_said(base: str, tmp_path: Path) -> None:
    drawing = np.full((64, 64), 255, np.uint8)
    drawing[30:34] = 0
    Image.fromarray(drawing).save(tmp_path / "drawing.png")
    notes: list[str] = []
    request = GenerateRequest(
        CANNY, [tmp_path / "drawing.png"], "a", out=tmp_path / "out", base=base, ready_hint=True,
        settings={"steps": 1},
    )  # fmt: skip
    made = list(generate(request, on_event=lambda event: notes.append(getattr(event, "text", ""))))
    assert any("the hint is mostly white" in note for note in notes)
    assert '"Module: none, ' in Image.open(made[0].path).text["parameters"]
