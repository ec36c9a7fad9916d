"""Jobs that come one by one: each is made as a separate run makes it, on networks read once."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.commands.generate import models
from cnctl.commands.generate.job_stream import JobResult, generate_jobs
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.tensorfiles.base_update_file import BASE_UPDATE


@pytest.fixture(scope="module")
def base(
    random_base: Path, random_controlnet: ControlNetModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The random base with ControlNets for canny and scribble."""
    folder = tmp_path_factory.mktemp("bases") / "with-controls"
    shutil.copytree(random_base, folder)
    for name in ("canny", "scribble"):
        random_controlnet.save_pretrained(folder / "controls" / name)
    return folder


@pytest.fixture
def hint(tmp_path: Path) -> str:
    lines = np.zeros((64, 64), np.uint8)
    lines[20:22] = 255
    Image.fromarray(lines).save(tmp_path / "lines.png")
    return str(tmp_path / "lines.png")


@pytest.fixture
def request_(base: Path, tmp_path: Path) -> GenerateRequest:
    return GenerateRequest(
        controls=["canny"],
        base=str(base),
        prompt="a box",
        ready_hint=True,
        settings={"steps": 2, "resolution": 64},
        out=tmp_path / "out",
    )


def run(request: GenerateRequest, *jobs: object) -> list[JobResult]:
    lines = (job if isinstance(job, str | bytes) else json.dumps(job) for job in jobs)
    return [*generate_jobs(request, lines)]


@pytest.mark.slow
def test_a_job_is_made_as_by_a_run_of_its_own(request_: GenerateRequest, hint: str, base) -> None:
    job = {"image": hint, "prompt": "a ball", "seed": 7, "steps": 3, "control_scale": 0.5}
    (result,) = run(request_, job)
    (image,) = result.images
    alone = GenerateRequest(
        controls=["canny"],
        images=[hint],
        base=str(base),
        prompt="a ball",
        seed=7,
        ready_hint=True,
        settings={"steps": 3, "control_scale": 0.5, "resolution": 64},
        out=image.path.with_name("alone"),
    )
    (expected,) = generate(alone)
    assert np.array_equal(np.asarray(Image.open(image.path)), np.asarray(Image.open(expected.path)))
    assert image.record.differences(expected.record) == []


def test_a_job_may_edit_an_image_and_the_next_need_not(
    request_: GenerateRequest, hint: str, tmp_path: Path
) -> None:
    photograph = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(photograph).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edit = {"edit": str(tmp_path / "photo.png"), "mask": str(tmp_path / "mask.png")}
    results = run(
        request_,
        {"image": hint, **edit, "strength": 0.5},
        {"image": hint},
        {"image": hint, **edit, "strength": 2},
        {"image": hint, "mask": edit["mask"]},
    )
    edited, plain = (np.asarray(Image.open(result.images[0].path)) for result in results[:2])
    assert np.array_equal(edited[:, :32], photograph[:, :32])
    assert not np.array_equal(plain[:, :32], photograph[:, :32])
    assert "strength" in str(results[2].error)
    assert "--mask is for an image to edit" in str(results[3].error)


def test_networks_are_read_once_and_a_job_may_name_other_controls(
    request_: GenerateRequest, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    open_control = models.open_control

    def count(condition, *args, **kwargs):
        opened.append(condition.name)
        return open_control(condition, *args, **kwargs)

    monkeypatch.setattr(models, "open_control", count)
    jobs = [{"image": hint}, {"image": hint, "cond": ["scribble", "canny::0.4"]}, {"image": hint}]
    results = run(request_, *jobs)
    made = [[one.condition for one in result.images[0].record.controls] for result in results]
    assert made == [["canny"], ["scribble", "canny"], ["canny"]]
    assert opened == ["canny", "scribble"]


def test_a_bad_job_is_answered_and_the_next_is_done(request_: GenerateRequest, hint: str) -> None:
    bad = [
        "no JSON",
        b"\xff\xfe",
        {"image": "missing.png"},
        {"image": hint, "stepz": 3},
        {"image": hint, "steps": "ten"},
        {"image": hint, "seed": 1.5},
        {"image": hint, "cond": "no-such-condition"},
        {"image": hint, "control": "missing.safetensors"},
        {"prompt": 3, "image": hint},
    ]
    *failed, last = run(request_, *bad, "", {"image": hint})
    assert [result.error is not None for result in failed] == [True] * len(bad)
    assert [result.number for result in failed] == [*range(1, len(bad) + 1)]
    assert (last.number, last.error, len(last.images)) == (len(bad) + 2, None, 1)


def test_a_job_is_done_before_the_next_is_read(request_: GenerateRequest, hint: str) -> None:
    read = []

    def lines() -> Iterator[str]:
        for seed in range(2):
            read.append(seed)
            yield json.dumps({"image": hint, "seed": seed})

    first = next(iter(generate_jobs(request_, lines())))
    assert first.images[0].path.is_file()
    assert read == [0]


def test_weights_that_change_the_base_cannot_follow_others(
    request_: GenerateRequest, hint: str, base: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    from cnctl.models.families import load_base

    changed = tmp_path / "changed"
    shutil.copytree(base / "controls" / "canny", changed)
    bias = load_base(base).denoiser.conv_out.bias.detach()
    save_file({"conv_out.bias": bias}, changed / BASE_UPDATE)
    first, second = run(
        request_, {"image": hint}, {"image": hint, "cond": "canny", "control": str(changed)}
    )
    assert first.error is None
    assert "different bases" in str(second.error)
