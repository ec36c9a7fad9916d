"""What a run would do, reported without doing any of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from torch.nn import Linear

from cnctl.commands.generate import memory_plan
from cnctl.commands.generate.dry_run import plan_generation
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.events import Note, ignore
from cnctl.errors import MissingError
from cnctl.images import read_image, write_image
from cnctl.models.base import Base


@pytest.fixture(scope="module")
def control(random_controlnet: ControlNetModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    random_controlnet.save_pretrained(folder)
    return folder


@pytest.fixture
def request_(
    random_base: Path, control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> GenerateRequest:
    monkeypatch.chdir(tmp_path)
    write_image(Path("wide.png"), np.full((48, 96, 3), 99, np.uint8))
    write_image(Path("edges.png"), np.full((64, 64, 3), 255, np.uint8))
    return GenerateRequest(
        controls=["canny"],
        images=["wide.png"],
        prompt=["one", "two"],
        count=2,
        base=str(random_base),
        weights=[str(control)],
        settings={"resolution": 64, "steps": 3},
    )


def test_the_plan_names_inputs_outputs_hints_weights_and_sizes(
    request_: GenerateRequest, control: Path
) -> None:
    plan = plan_generation(request_, ignore)
    (planned,) = plan.controls
    assert (planned.hints, planned.weights) == ("detected", control)
    assert plan.sizes == {"128 x 64": 4}
    assert [image.path.name for image in plan.images] == [
        *("wide-canny-p1-0.png", "wide-canny-p1-1.png"),
        *("wide-canny-p2-0.png", "wide-canny-p2-1.png"),
    ]
    assert plan.hints == [Path("out/wide-canny-hint.png")]
    lines = plan.lines()
    assert "inputs      1 image, 2 prompts" in lines
    assert "sizes       4 of 128 x 64" in lines
    assert any(line.startswith("settings    3 steps, ") for line in lines)
    assert not Path("out").exists()
    made = [*generate(request_)]
    assert [image.path for image in made] == [image.path for image in plan.images]
    assert read_image(made[0].path).shape == (64, 128, 3)
    assert Path("out/wide-canny-hint.png").is_file()


def test_given_hints_are_told_from_detected_ones(request_: GenerateRequest) -> None:
    plan = plan_generation(replace(request_, images=["edges.png"], ready_hint=True), ignore)
    assert plan.controls[0].hints == "given"
    assert plan.hints == []
    with pytest.raises(MissingError, match="no ControlNet 'nosuch'"):
        plan_generation(replace(request_, weights=["nosuch"]), ignore)


def test_the_plan_counts_what_weights_need(request_: GenerateRequest) -> None:
    """The bytes of the files of weights, which hold nothing else, and what needs less."""

    def plan(**asked: object) -> dict[str, int]:
        return dict(plan_generation(replace(request_, **asked), ignore).memory)

    files = [*Path(str(request_.base)).rglob("*.safetensors"), *_files(request_.weights)]
    on_disk = sum(file.stat().st_size for file in files)
    memory = plan()
    # Headers and the embeddings of positions come on top in files.
    assert 0.9 * on_disk < memory["as asked"] <= on_disk
    assert memory["--low-memory --quantize nf4"] <= memory["--low-memory"] < memory["as asked"]
    assert memory["--quantize nf4"] < memory["--quantize int8"] < memory["as asked"]
    assert plan(low_memory=True)["as asked"] == memory["--low-memory"]
    assert plan(dtype="bfloat16")["as asked"] == memory["as asked"] // 2


def _files(folders: Sequence[str]) -> list[Path]:
    return [file for folder in folders for file in Path(folder).glob("*.safetensors")]


def test_a_device_that_is_too_small_is_said_before_weights_are_read(
    request_: GenerateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Note] = []
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: 2 * 2**30 + 1)
    next(generate(replace(request_, images=["edges.png"]), on_event=events.append))
    (said,) = (
        e.text for e in events if isinstance(e, Note) and "GB free, and this needs" in e.text
    )
    assert said.startswith("cpu has 2.1 GB free")
    assert " with --low-memory" in said


def test_layers_move_once_where_they_do_not_fit_the_device(
    loaded_random_base: Base, random_controlnet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not again for the next job, whose ControlNet may be a new one."""
    moved: list[object] = []
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: 2 * 2**30 + 1)
    monkeypatch.setattr(memory_plan, "move_layers", lambda module, device: moved.append(module))
    monkeypatch.setattr(memory_plan, "has_moving_layers", lambda module: module in moved)
    said: list[str] = []
    base = replace(loaded_random_base, device=torch.device("cuda"), low_memory=True)
    for networks in ([], [random_controlnet], [random_controlnet]):
        memory_plan.move_layers_if_too_large(base, networks, note=said.append)
    assert moved == [base.denoiser, random_controlnet]
    assert len(said) == 2
    assert said[0].endswith("each layer moves there when it runs, which takes longer")
    for fits in (replace(base, quantized="int8"), replace(base, low_memory=False)):
        memory_plan.move_layers_if_too_large(fits, [Linear(8, 8)], note=said.append)
    assert len(said) == 2
