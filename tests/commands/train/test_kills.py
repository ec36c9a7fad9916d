"""Twenty kill -9 at random moments; tests/benchmarks/kills.py has two hundred."""

import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_random_kills_lose_nothing(
    random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The children find the module by its name below the root, which pytest leaves off the path.
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[3])])
    from tests.benchmarks.kills import SETTINGS, TrainRequest, survive

    request = TrainRequest(
        condition="canny", data="scenes:12", base=str(random_base), settings=SETTINGS
    )
    assert survive(request, tmp_path, kills=20) >= 1
