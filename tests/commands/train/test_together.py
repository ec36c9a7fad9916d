"""Several processes that train together, on the CPU by gloo."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.run import train
from cnctl.data import Pair
from cnctl.errors import CnctlError, MissingError
from cnctl.images import write_image
from cnctl.settings import TrainSettings
from cnctl.system import processes
from cnctl.training import accelerator
from cnctl.training.batch_sampler import BatchSampler
from cnctl.training.data_loader import read_batches

COUNT, BATCH, STEPS = 12, 4, 4
SETTINGS = {
    "resolution": 32, "steps": STEPS, "preview_every": 0, "held_out": 0, "checkpoint_every": 1,
    "learning_rate": 1e-3, "seed": 5,
}  # fmt: skip

KINDS = {
    "whole": {},
    "fsdp": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "deepspeed": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
}
"""What `accelerate launch --config_file` says to the processes, by their environment."""


def write_pairs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = []
    for number in range(COUNT):
        image, hint = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        names = {"image": f"{number}.png", "hint": f"{number}-hint.png"}
        write_image(folder / names["image"], image)
        write_image(folder / names["hint"], hint[..., :1])
        lines.append(json.dumps({**names, "prompt": f"number {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def losses(out: Path) -> list[float]:
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [entry["loss"] for entry in entries if entry["event"] == "step"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_are_as_one_and_one_goes_on_where_two_have_failed(
    kind: str,
    random_base: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes of batch 2 have the losses of one of batch 4, until one meets a bad image."""
    data, out = tmp_path / "data", tmp_path / "two"
    write_pairs(data)
    asked: dict[str, Any] = {"condition": "canny", "data": str(data), "device": "cpu"}
    whole = TrainRequest(**asked, base=str(random_base), settings=SETTINGS | {"batch_size": BATCH})
    train(whole, tmp_path / "one")
    expected = losses(tmp_path / "one")

    # The second process reads the second half of each step's examples.
    order = BatchSampler([0] * COUNT, batch_size=BATCH, seed=5)
    bad = data / f"{order.at(2)[-1][1]}.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:60])
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    flags += [f"--data={data}", f"--base={random_base}", "--cond=canny", "--device=cpu"]
    with monkeypatch.context() as environment:
        for name, value in KINDS[kind].items():
            environment.setenv(name, value)
        code = processes.launch(["train", *flags, "--batch-size=2", "-q", f"--out={out}"], 2)
    assert code == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"{bad.name} is truncated" in lines[0]
    np.testing.assert_allclose(losses(out), expected[:2], rtol=1e-5)
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == [
        "step-00000001",
        "step-00000002",
    ]

    bad.write_bytes(content)
    train(TrainRequest(settings={"num_processes": 1}), out, resume=True)
    np.testing.assert_allclose(losses(out), expected, rtol=1e-5)


@pytest.mark.slow
def test_two_are_as_one_beside_a_transformer(random_zimage_base: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data")
    asked: dict[str, Any] = {"condition": "canny", "data": str(tmp_path / "data"), "device": "cpu"}
    whole = TrainRequest(
        **asked, base=str(random_zimage_base), settings=SETTINGS | {"batch_size": BATCH}
    )
    train(whole, tmp_path / "one")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    flags += [f"--data={tmp_path / 'data'}", f"--base={random_zimage_base}", "--cond=canny"]
    out = f"--out={tmp_path / 'two'}"
    assert processes.launch(["train", *flags, "--device=cpu", "--batch-size=2", "-q", out], 2) == 0
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes", "settings", "message"),
    [
        ("fsdp", {"FSDP_VERSION": "1"}, {}, "FSDP 1 is not supported"),
        ("fsdp", {}, {"optimizer": "adamw8bit"}, "need AdamW"),
        ("deepspeed", {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"}, {}, "ZeRO 0 shards nothing"),
        (
            "deepspeed",
            {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
            {"ema": 0.9},
            "EMA does not work with the sharded weights of ZeRO 3",
        ),
        ("deepspeed", {}, {"unfreeze_after": 2}, "cannot add weights during a run"),
    ],
)
def test_what_shards_cannot_do_is_said_before_anything_is_trained(
    kind: str,
    changes: dict[str, str],
    settings: dict[str, object],
    message: str,
    random_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (KINDS[kind] | changes).items():
        monkeypatch.setenv(name, value)
    write_pairs(tmp_path / "data")
    request = TrainRequest(
        condition="canny",
        data=str(tmp_path / "data"),
        base=str(random_base),
        device="cpu",
        settings=SETTINGS | settings,
    )
    with pytest.raises(CnctlError, match=message):
        train(request, tmp_path / "run")


def test_a_base_in_shards_beside_a_controlnet_that_runs_its_layers_is_refused(
    random_zimage_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KINDS["fsdp"].items():
        monkeypatch.setenv(name, value)
    settings = SETTINGS | {"unfreeze_after": 2, "unfreeze": "all"}
    request = TrainRequest(
        condition="canny", data="scenes:12", base=str(random_zimage_base), device="cpu",
        settings=settings,
    )  # fmt: skip
    with pytest.raises(CnctlError, match="this ControlNet runs layers of its base"):
        train(request, tmp_path / "run")


def test_an_absent_deepspeed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr(accelerator, "is_deepspeed_available", lambda: False)
    with pytest.raises(MissingError, match="DeepSpeed, which is not installed"):
        train(TrainRequest(condition="canny", data="scenes:20", device="cpu"), tmp_path / "run")


class Numbered:
    """Examples that are their numbers."""

    groups = (0,) * 7

    def __len__(self) -> int:
        return 7

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        return Pair(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 1), np.uint8), "")

    def name(self, index: int) -> str:
        return str(index)


def test_processes_share_each_step_without_overlap() -> None:
    settings = TrainSettings(steps=5, batch_size=2, gradient_accumulation=3, num_processes=2)
    read = [list(read_batches(Numbered(), range(5), settings, rank=rank)) for rank in (0, 1)]
    alone = TrainSettings(steps=5, batch_size=4, gradient_accumulation=3)
    for left, right, whole in zip(*read, read_batches(Numbered(), range(5), alone), strict=True):
        assert left.keys + right.keys == whole.keys


def test_the_code_is_that_of_the_process_that_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert processes.launch(["--version"], 2) == 0
    assert processes.launch(["info", "/nowhere/at/all"], 2) != 0
