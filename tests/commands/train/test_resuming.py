"""What a run's last bits depend on: kept, used again when it is resumed, or its change is said."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cnctl.commands.shared.events import Note
from cnctl.commands.train.record import RunRecord
from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.resuming import complete_request, note_changed_bits
from cnctl.commands.train.run import train
from cnctl.commands.train.threads import same_threads
from cnctl.settings import TrainSettings
from cnctl.training.trainer import StepReport

STARTED = RunRecord(
    version="0.1.0",
    condition="canny",
    data="scenes:12",
    examples=12,
    fingerprint="scenes",
    base="tiny",
    device="cpu",
    dtype="float32",
    torch="2.7.0",
    threads=2,
    settings=TrainSettings(steps=4),
)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def test_a_short_name_is_not_taken_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `cnctl generate` reads it."""
    monkeypatch.chdir(tmp_path)
    for name in ("sd15", "mine"):
        (tmp_path / name).mkdir()
        request, _ = complete_request(TrainRequest(condition="canny", base=name), None)
        assert request.base == {"sd15": "sd15", "mine": str(tmp_path / "mine")}[name]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"threads": 1}, "threads 2 -> 1"),
        ({"threads": 0, "torch": ""}, ""),  # as records had it at first
        ({"device": "cuda", "dtype": "bfloat16"}, "device cpu -> cuda, dtype float32 -> bfloat16"),
        ({"torch": "2.8.0"}, "torch 2.7.0 -> 2.8.0"),
        ({"settings": TrainSettings(steps=9, workers=2)}, ""),
        ({"settings": TrainSettings(channels_last=True)}, "channels_last False -> True"),
    ],
)
def test_changes_that_show_in_the_last_bits_are_said(changes: dict[str, Any], said: str) -> None:
    notes: list[str] = []
    note_changed_bits(replace(STARTED, **changes), STARTED, note=notes.append)
    expected = f"changed since the start: {said}; the result is equivalent, but not the same bit"
    assert [note.removesuffix(" for bit") for note in notes] == [expected] * bool(said)


def test_threads_without_cores_are_not_used() -> None:
    notes: list[str] = []
    torch.set_num_threads(2)
    with same_threads(replace(STARTED, threads=1), note=notes.append):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert notes == ["torch's threads: 1, as at the start, not 2, for the same bits"]
    for threads in (0, 4096):
        with same_threads(replace(STARTED, threads=threads), note=notes.append):
            assert torch.get_num_threads() == 2
    assert len(notes) == 1


@pytest.mark.slow
def test_a_resumed_run_uses_as_many_threads_as_at_its_start(
    random_base: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    events: list[Any] = []

    def on_event(event: Any) -> None:
        events.append(event)
        if isinstance(event, StepReport):
            seen.append(torch.get_num_threads())

    settings = {"steps": 1, "batch_size": 2, "preview_every": 0}
    asked = TrainRequest(
        condition="canny", data="scenes:12", base=str(random_base), settings=settings
    )
    torch.set_num_threads(1)
    train(asked, tmp_path / "run", on_event=on_event)
    torch.set_num_threads(2)
    train(TrainRequest(settings={"steps": 2}), tmp_path / "run", resume=True, on_event=on_event)
    assert seen == [1, 1]
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("as at the start" in note for note in notes)
    assert not any("changed since the start" in note for note in notes)
