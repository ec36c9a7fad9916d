"""Folders, job files, sweeps, names, and what is there already: planned before work starts."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate import hints as sources
from cnctl.commands.generate.events import Event
from cnctl.commands.generate.gallery import write_gallery, write_grids
from cnctl.commands.generate.generated import GeneratedImage
from cnctl.commands.generate.outputs import OutputLayout, Task
from cnctl.commands.generate.record import read_record
from cnctl.commands.generate.replay import replay
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.generate.tasks import parse_size, parse_sweep, read_jobs
from cnctl.commands.shared.events import FailedImage, Note, Stage, ignore
from cnctl.errors import CnctlError, OutputError, SomeInputsFailed

Make = Callable[..., list[GeneratedImage]]
CANNY = [ControlSpec(condition="canny")]


def task(name: str = "cat", **fields: object) -> Task:
    given = {"image": Path(f"{name}.png"), "input": name, "conditions": "canny", "prompt": "a"}
    return Task(**{**given, "negative_prompt": "", **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base(
    random_base: Path, random_controlnet: ControlNetModel, tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder = tmp_path_factory.mktemp("bases") / "base"
    shutil.copytree(random_base, folder)
    random_controlnet.save_pretrained(folder / "controls" / "canny")
    return str(folder)


@pytest.fixture
def make(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Generate in one step, from photos/a.png and photos/sub/a.png in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate([Path("photos/a.png"), Path("photos/sub/a.png")]):
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    def run(**arguments: object) -> list[GeneratedImage]:
        shared = {"controls": CANNY, "base": base, "settings": {"steps": 1}, "prompt": "a"}
        hooks = {name: arguments.pop(name) for name in [*arguments] if name.startswith("on_")}
        return list(generate(GenerateRequest(**(shared | arguments)), **hooks))  # type: ignore[arg-type]

    return run


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


def names(images: object) -> list[str]:
    return [image.path.as_posix() for image in images]  # type: ignore[attr-defined]


class TestPlan:
    def test_names_tell_apart_what_varies(self, tmp_path: Path) -> None:
        plan = OutputLayout(out=tmp_path, count=2, seed=4)
        variant = {"prompt": 2, "control_scale": 0.5}
        images = plan.plan([task(variant=variant, folder=Path("sub"))])
        assert names(images) == [
            f"{tmp_path}/sub/cat-canny-p2-control_scale0.5-{seed}.png" for seed in (4, 5)
        ]

    def test_a_template_names_images(self, tmp_path: Path) -> None:
        plan = OutputLayout(out=tmp_path, name="{input}/{seed:04}", seed=7)
        assert names(plan.plan([task()])) == [f"{tmp_path}/cat/0007.png"]
        with pytest.raises(CnctlError, match=r"--name '\{steps\}' is not valid") as caught:
            OutputLayout(out=tmp_path, name="{steps}").plan([task()])
        assert "{seed}" in caught.value.hint

    @pytest.mark.parametrize(
        ("template", "name"), [("../{stem}", "cat"), ("{stem}", "../cat"), ("{seed}", "/tmp/cat")]
    )
    def test_no_name_leads_out_of_the_folder(self, tmp_path: Path, template, name) -> None:
        with pytest.raises(OutputError, match="leads out of"):
            OutputLayout(out=tmp_path, name=template).plan([task(input=name)])

    def test_two_images_never_have_one_path(self, tmp_path: Path) -> None:
        plan = OutputLayout(out=tmp_path, name="{input}", seed=0)
        with pytest.raises(OutputError, match=r"x/cat.png and cat.png would both become .*cat.png"):
            plan.plan([task(image=Path("x/cat.png")), task()])
        with pytest.raises(OutputError, match=r"two images would both become"):
            OutputLayout(out=tmp_path, name="{input}", count=2).plan([task()])

    def test_free_seeds_are_looked_for_among_files_and_this_run(self, tmp_path: Path) -> None:
        (tmp_path / "cat-canny-1.png").touch()
        images = OutputLayout(out=tmp_path, count=2).plan([task(), task()])
        assert [image.seed for image in images] == [2, 3, 4, 5]

    def test_a_seed_of_a_job_is_its_own(self, tmp_path: Path) -> None:
        images = OutputLayout(out=tmp_path, seed=1).plan([task(seed=9), task("dog")])
        assert [image.seed for image in images] == [9, 1]
        with pytest.raises(CnctlError, match="seed -1 is out of range"):
            OutputLayout(out=tmp_path).plan([task(seed=-1)])


class TestJobs:
    def test_a_line_says_what_it_wants_and_the_rest_is_shared(self, tmp_path: Path) -> None:
        lines = [{"image": "a.png"}, {"image": "b.png", "prompt": "b", "seed": 3, "name": "best"}]
        path = tmp_path / "jobs.jsonl"
        path.write_text("\n\n".join(map(json.dumps, lines)))
        first, second = read_jobs(path, conditions="canny", prompt="p", negative_prompt="n")
        assert (first.image, first.prompt, first.stem) == (tmp_path / "a.png", "p", "a-canny")
        assert (second.prompt, second.negative_prompt) == ("b", "n")
        assert (second.seed, second.stem) == (3, "best")

    def test_a_line_ends_at_a_line_feed_alone(self, tmp_path: Path) -> None:
        job = {"image": "a.png", "prompt": "a\u2028b\u0085c"}
        (tmp_path / "jobs.jsonl").write_text(json.dumps(job, ensure_ascii=False) + "\n")
        (task,) = read_jobs(tmp_path / "jobs.jsonl", conditions="canny", prompt="p")
        assert task.prompt == job["prompt"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "line 1 is not a JSON object"),
            ("[1]", "line 1 is not a JSON object"),
            ('\n{"image": "a", "promt": "b"}', "line 2 has 'promt'"),
            ('{"prompt": "b"}', "line 1 is not a job"),
            ('{"image": "a", "seed": "1"}', "line 1 has seed '1'"),
            ("", "holds no job"),
        ],
    )
    def test_refuses(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "jobs.jsonl").write_text(text)
        with pytest.raises(CnctlError, match=message):
            read_jobs(tmp_path / "jobs.jsonl", conditions="canny", prompt="p")


def test_sweeps_are_read_as_settings() -> None:
    sweep = parse_sweep(["control-scale=0.2,1", "scheduler=ddim, euler"])
    assert sweep == {"control_scale": [0.2, 1.0], "scheduler": ["ddim", "euler"]}
    with pytest.raises(CnctlError, match="there is no setting 'stepz'") as caught:
        parse_sweep(["stepz=1"])
    assert caught.value.hint == "did you mean steps?"
    with pytest.raises(CnctlError, match="steps='a' is not a whole number"):
        parse_sweep(["steps=a"])
    with pytest.raises(CnctlError, match="--sweep 'steps' is not NAME=VALUE,VALUE"):
        parse_sweep(["steps"])


def test_a_folder_keeps_its_tree_and_goes_on_where_it_stopped(make: Make, tmp_path: Path) -> None:
    every = make(images=["photos"], seed=0, count=2)
    relative = [image.path.relative_to("out").as_posix() for image in every]
    assert relative == ["a-canny-0.png", "a-canny-1.png", "sub/a-canny-0.png", "sub/a-canny-1.png"]
    assert every[2].hint == Path("out/sub/a-canny-hint.png")
    before = {image.path: image.path.read_bytes() for image in every}
    every[3].path.unlink()
    kept = every[0].path.stat().st_mtime_ns
    again = make(images=["photos"], seed=0, count=2, resume=True)
    assert [image.path for image in again] == [image.path for image in every]
    assert every[0].path.stat().st_mtime_ns == kept
    assert np.abs(pixels(again[3].path).astype(int) - pixels(every[2].path)).max() > 0
    assert again[0].record.prompt == "a"
    assert all(path.read_bytes() == data for path, data in list(before.items())[:3])
    with pytest.raises(OutputError, match=r"a-canny-0.png was made with other settings: prompt"):
        make(images=["photos"], seed=0, prompt="b", resume=True)
    with pytest.raises(OutputError, match=r"a-canny-0.png exists"):
        make(images=["photos"], seed=0)


@pytest.mark.slow
def test_each_point_of_a_sweep_is_the_image_of_these_settings(make: Make) -> None:
    controls = [ControlSpec(condition="canny", scale=0.9)]
    photo = {"images": ["photos/a.png"], "seed": 1, "controls": controls}
    sweep = {"control_scale": [0.2, 1.0], "steps": [1, 2]}
    made = make(**photo, sweep=sweep)
    assert [image.path.stem for image in made] == [
        f"a-canny-control_scale{scale}-steps{steps}-1" for scale in (0.2, 1.0) for steps in (1, 2)
    ]
    assert [image.record.controls[0].scale for image in made] == [0.2, 0.2, 1.0, 1.0]
    assert [image.record.settings["steps"] for image in made] == [1, 2, 1, 2]
    settings = {"steps": 2, "control_scale": 0.2}
    (alone,) = make(**{**photo, "controls": CANNY}, settings=settings)
    assert np.array_equal(pixels(made[1].path), pixels(alone.path))
    grid = write_grids(made)
    assert grid == write_grids(made) == [Path("out/a-canny-grid.png")]
    (fewer,) = write_grids(made[:2])
    assert fewer.name.startswith("a-canny-grid-")
    assert not np.array_equal(pixels(fewer), pixels(grid[0]))
    assert write_grids(made[:2]) == [fewer]
    sheet = pixels(grid[0])
    # Two rows of three cells of 64 pixels, gaps of 4, and a line of text below each cell.
    assert sheet.shape == (2 * (64 + 24 + 4) + 4, 3 * 68 + 4, 3)
    assert np.array_equal(sheet[4:68, 72:136], pixels(made[0].path))
    assert np.array_equal(sheet[96:160, 140:204], pixels(made[3].path))


def test_prompts_stand_side_by_side_where_each_has_one_image(make: Make) -> None:
    made = make(images=["photos/a.png"], prompt=["a", "b", "c"], seed=0)
    (grid,) = write_grids(made)
    sheet = pixels(grid)
    assert sheet.shape == (64 + 24 + 4 + 4, 4 * 68 + 4, 3)
    for i, image in enumerate(made, start=1):
        assert np.array_equal(sheet[4:68, 4 + 68 * i : 68 + 68 * i], pixels(image.path))


def test_jobs_run_and_a_page_shows_them(make: Make, tmp_path: Path) -> None:
    lines = [{"image": "photos/a.png", "prompt": "<b>", "name": "x"}, {"image": "photos/sub/a.png"}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = make(jobs="jobs.jsonl", seed=2)
    assert [image.path.name for image in made] == ["x-2.png", "a-canny-2.png"]
    write_gallery(made, Path("out/gallery.html"))
    with pytest.raises(OutputError, match=r"gallery.html exists already"):
        write_gallery(made[:1], Path("out/gallery.html"))
    page = Path("out/gallery.html").read_text()
    for image in made:
        assert f'src="{image.path.name}"' in page
        assert f'src="{image.hint.name}"' in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    with pytest.raises(CnctlError, match="--jobs names images and prompts itself"):
        make(jobs="jobs.jsonl", images=["photos/a.png"])


@pytest.mark.slow
def test_hints_are_fitted_to_the_size_that_is_asked_for(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawing = np.zeros((40, 80), np.uint8)
    drawing[:, 30:50] = 255
    Image.fromarray(drawing).save("drawing.png")
    events: list[Event] = []
    ready = {"controls": ["canny:drawing.png"], "ready_hint": True, "size": (64, 64), "seed": 0}
    images = {}
    for resize in ("stretch", "crop", "fill"):
        settings = {"steps": 1, "resize": resize}
        request = GenerateRequest(**ready, settings=settings, base=base, out=resize)  # type: ignore[arg-type]
        (made,) = generate(request, on_event=events.append)
        images[resize] = pixels(made.path)
        assert images[resize].shape == (64, 64, 3)
        assert made.record.size == (64, 64)
    assert not np.array_equal(images["stretch"], images["crop"])
    assert not np.array_equal(images["crop"], images["fill"])
    notes = [event for event in events if isinstance(event, Note)]
    assert notes[0] == Note(
        "drawing.png has 80x40 pixels and is stretched to 64x64; "
        "--resize stretch, crop or fill decides"
    )


@pytest.mark.slow
def test_a_region_opens_a_part_of_the_image_to_its_control(make: Make) -> None:
    Image.new("L", (10, 10)).save("black.png")
    Image.new("L", (10, 10), 255).save("white.png")
    photo = {"images": ["photos/a.png"], "seed": 0}

    def made(out: str, **acts: object) -> np.ndarray:
        spec = [ControlSpec(condition="canny", **acts)]  # type: ignore[arg-type]
        return pixels(make(**photo, controls=spec, out=out)[0].path)

    assert np.array_equal(made("black", region="black.png"), made("off", scale=0.0))
    assert np.array_equal(made("white", region="white.png"), made("on"))
    (image,) = make(**photo, controls=[ControlSpec(condition="canny", region="black.png")])
    assert image.record.controls[0].region.name == "black.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (60, 64)}, "60x64 pixels cannot be generated"),
        (
            {"settings": {"resize": "squeeze"}},
            "must be stretch, crop or fill",
        ),
        ({"controls": [ControlSpec(condition="canny", region="none.png")]}, r"none.png: no such"),
    ],
)
def test_refuses_sizes_and_regions(make: Make, arguments: dict, message: str) -> None:
    with pytest.raises(CnctlError, match=message):
        make(images=["photos/a.png"], **arguments)


def test_sizes_are_read_width_first() -> None:
    assert parse_size("768x512") == (768, 512)
    assert parse_size(None) is None
    with pytest.raises(CnctlError, match="--size '512' is not WIDTHxHEIGHT"):
        parse_size("512")


def failed(events: list[Event]) -> list[FailedImage]:
    return [event for event in events if isinstance(event, FailedImage)]


class TestBadInputs:
    """One that is bad is put down by name, and the others are made."""

    @pytest.mark.slow
    def test_before_work_where_a_file_cannot_be_read(self, make: Make) -> None:
        Path("photos/bad.png").write_text("no image")
        events: list[Event] = []
        request = {"images": [Path("photos")], "out": "out", "seed": 0}
        made = make(on_event=events.append, **request)
        assert names(made) == ["out/a-canny-0.png", "out/sub/a-canny-0.png"]
        assert [failure.image for failure in failed(events)] == [Path("photos/bad.png")]
        assert "is a text file" in failed(events)[0].error
        with pytest.raises(SomeInputsFailed, match=r"1 input failed: photos/bad.png"):
            make(**request, overwrite=True)

    def test_where_a_job_names_none(self, make: Make, tmp_path: Path) -> None:
        jobs = [{"image": "photos/a.png"}, {"image": "photos/none.png"}]
        Path("jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
        events: list[Event] = []
        made = make(jobs=tmp_path / "jobs.jsonl", out="out", on_event=events.append)
        assert names(made) == ["out/a-canny-0.png"]
        assert [failure.image.name for failure in failed(events)] == ["none.png"]

    def test_where_nothing_is_found_in_it(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detect = sources._detect

        def sometimes(branch: object, image: np.ndarray, source: Path) -> np.ndarray:
            if source.parent.name == "sub":
                raise CnctlError(f"canny found nothing in {source}")
            return detect(branch, image, source)  # type: ignore[arg-type]

        monkeypatch.setattr(sources, "_detect", sometimes)
        events: list[Event] = []
        made = make(
            images=[Path("photos")],
            on_event=events.append,
        )
        assert names(made) == ["out/a-canny-0.png"]
        assert [failure.image for failure in failed(events)] == [Path("photos/sub/a.png")]
        assert [event for event in events if isinstance(event, Stage)][-1] == Stage(
            "denoising", 1, 1
        )

    def test_of_which_one_alone_is_the_runs_own_error(self, make: Make) -> None:
        Path("bad.png").write_text("no image")
        with pytest.raises(CnctlError, match=r"bad.png is a text file") as caught:
            make(images=[Path("bad.png")], on_event=ignore)
        assert caught.value.exit_code == 2
        shutil.copy("bad.png", "worse.png")
        with pytest.raises(SomeInputsFailed, match="2 inputs failed, and no other is left"):
            make(images=[Path("bad.png"), Path("worse.png")])


@pytest.mark.parametrize(
    ("scales", "message"),
    [({"step_scales": (1.0, 1.0)}, "2 step scales"), ({"residual_scales": (1.0,)}, "1 residual")],
)
def test_scales_are_counted_before_anything_is_written(
    make: Make, scales: dict, message: str
) -> None:
    with pytest.raises(CnctlError, match=message):
        make(controls=[ControlSpec(condition="canny", **scales)], images=[Path("photos")])
    assert not Path("out").exists()


@pytest.mark.slow
def test_names_that_are_not_utf8_are_recorded_and_found_again(make: Make, base: str) -> None:
    odd = Path(os.fsdecode(b"photos/caf\xe9 #1.png"))
    shutil.copy("photos/a.png", odd)
    Path(os.fsdecode(b"photos/br\xf6ken.png")).write_bytes(b"no image")
    failed: list[FailedImage] = []

    def on_event(event: object) -> None:
        if isinstance(event, FailedImage):
            failed.append(event)

    made = make(images=["photos"], on_event=on_event)
    assert len(made) == 3
    assert len(failed) == 1
    image = next(image for image in made if "caf" in image.path.name)
    assert os.fsencode(image.path.name) == b"caf\xe9 #1-canny-0.png"
    record = read_record(image.path)
    assert record.controls[0].source.name == odd.name
    assert record == image.record
    request = replay(image.path, GenerateRequest(out="again", base=base))
    (again,) = generate(request)
    assert np.array_equal(pixels(again.path), pixels(image.path))
    write_gallery([image], Path("page.html"))
    assert 'src="out/caf%E9%20%231-canny-0.png"' in Path("page.html").read_text()
    (grid,) = write_grids([image])
    assert os.fsencode(grid.name) == b"caf\xe9 #1-canny-grid.png"


def test_prompts_that_are_not_utf8_are_refused(make: Make) -> None:
    for prompts in ({"prompt": "caf\udce9"}, {"negative_prompt": "\ud83d"}):
        with pytest.raises(CnctlError, match=r"prompt is not UTF-8 text"):
            make(images=["photos/a.png"], **prompts)
    job = {"image": "photos/a.png", "prompt": "\ud83d"}
    Path("jobs.jsonl").write_text(json.dumps(job))
    with pytest.raises(CnctlError, match=r"jobs.jsonl, line 1: the prompt is not UTF-8 text"):
        make(jobs="jobs.jsonl")
    (made,) = make(images=["photos/a.png"], prompt="caf\udcc3\udca9")  # as LC_ALL=C may have it
    assert made.record.prompt == "café"
