"""The record of a run in its checkpoints: written by an older cnctl, and by a newer one."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cnctl.commands.train.record import RunRecord, read_run
from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.run import plan_training, train
from cnctl.errors import CnctlError
from cnctl.settings import TrainSettings
from cnctl.training.checkpoints import Checkpoint

SETTINGS = {"steps": 2, "batch_size": 2, "preview_every": 0, "checkpoint_every": 2}
FIRST_FORM = {
    "version": "0.1.0",
    "condition": "canny",
    "data": "scenes:12",
    "examples": 12,
    "fingerprint": "scenes",
    "base": "tiny",
    "init_from": None,
    "device": "cpu",
    "dtype": "float32",
    "settings": {"steps": 4, "batch_size": 2, "snr_gamma": 5, "seed": 5, "tracker": ""},
}
"""As cnctl wrote it when there was neither a format nor a cache, and there were fewer settings."""


def read(**changes: Any) -> RunRecord:
    return read_run(Checkpoint(Path("run/step-00000002"), 2, {"run": FIRST_FORM | changes}))


def rewrite(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the run in the newest checkpoint, and the hash of its file."""
    folder = max((out / "checkpoints").iterdir())
    state = json.loads((folder / "state.json").read_text())
    change(state["run"])
    text = json.dumps(state).encode()
    (folder / "state.json").write_bytes(text)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"]["state.json"] = {
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def test_the_first_form_is_read() -> None:
    settings = TrainSettings(steps=4, batch_size=2, snr_gamma=5, seed=5)
    expected = {k: v for k, v in FIRST_FORM.items() if k != "settings"}
    assert read() == RunRecord(**expected, settings=settings)  # type: ignore[arg-type]


def test_former_names_of_settings_are_read() -> None:
    settings = read(settings={"unlock_after": 3, "unlock": "all"}).settings
    assert (settings.unfreeze_after, settings.unfreeze) == (3, "all")


def test_what_is_written_is_read_and_holds_defaults_too() -> None:
    record = replace(read(), cache="/tmp/cache")
    document = json.loads(json.dumps(record.to_json()))
    assert RunRecord.from_json(document) == record
    assert document["format"] == 1
    assert document["settings"] == asdict(record.settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, and this version of cnctl reads formats up to 1"),
        ({"format": "two"}, "format two"),
        ({"settings": {"steps": 4, "rank_decay": 0.5}}, "does not know: rank_decay$"),
        ({"settings": {"steps": "four"}}, "'steps' is 'four', which is not of type int"),
        ({"settings": []}, "'settings' is"),
        ({"examples": None}, "lacks 'examples'"),
        ({"galaxy": 1}, "unknown 'galaxy'"),
    ],
)
def test_what_cannot_be_read_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CnctlError, match=message) as raised:
        read(**changes)
    assert str(raised.value).startswith("run/step-00000002: ") or "step-00000002" in str(
        raised.value
    )
    assert "--init-from" in raised.value.hint
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_run_of_the_first_form_resumes_and_one_of_a_newer_cnctl_is_refused(
    random_base: Path, tmp_path: Path
) -> None:
    def as_first(run: dict[str, Any]) -> None:
        for name in ("format", "cache"):
            del run[name]
        del run["settings"]["on_convergence"]

    base, out = str(random_base), tmp_path / "run"
    train(TrainRequest(condition="canny", data="scenes:12", base=base, settings=SETTINGS), out)
    rewrite(out, as_first)
    more = TrainRequest(settings={"steps": 3})
    assert train(more, out, resume=True).steps == 3
    rewrite(out, lambda run: run["settings"].update(rank_decay=0.5))
    with pytest.raises(CnctlError, match=r"step-00000003: .* does not know: rank_decay$"):
        plan_training(more, out, resume=True)
