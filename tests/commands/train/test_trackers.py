import sys
from pathlib import Path

import pytest

from cnctl.commands.train.trackers import Tracker, check_tracker
from cnctl.errors import CnctlError, MissingError


def test_without_a_name_nothing_is_written(tmp_path: Path) -> None:
    tracker = Tracker("", tmp_path / "tracker", {})
    tracker.log({"loss": 1.0}, 1)
    tracker.finish()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_one_is_named_and_the_known_are_told() -> None:
    with pytest.raises(CnctlError, match="unknown tracker 'weights-and-biases'") as caught:
        check_tracker("weights-and-biases")
    assert "tensorboard" in caught.value.hint
    assert "wandb" in caught.value.hint


def test_an_absent_one_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingError, match="the tracker trackio needs trackio") as caught:
        Tracker("trackio", tmp_path, {})
    assert "pip install trackio" in caught.value.hint
