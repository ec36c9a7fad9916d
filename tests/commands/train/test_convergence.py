import pytest

from cnctl.commands.train.convergence import find_convergence
from cnctl.hints.metrics import METRICS


@pytest.mark.parametrize(
    ("scores", "step"),
    [
        ([], None),
        ([0.2], None),
        ([0.2, 0.25, 0.22, 0.3], None),  # never far from chance
        ([0.2, 0.25, 0.5, 0.55], 200),
        ([0.2, 0.5, 0.2, 0.6, 0.6], 300),  # one high score alone is noise
        ([0.2, 0.2, 0.9], None),  # not yet seen twice
        ([0.2, 0.4, 0.4, 0.3, 0.2], 100),  # what was lost later has been there
        ([1.0, 1.0, 1.0], None),  # the base alone is perfect
        ([12.0, 80.0, 90.0], None),  # no known best
    ],
)
def test_more_is_better(scores: list[float], step: int | None) -> None:
    by_step = {100 * i: score for i, score in enumerate(scores)}
    assert find_convergence(by_step, METRICS["edge_f1"]) == step


def test_less_is_better() -> None:
    assert find_convergence({0: 40.0, 10: 35.0, 20: 29.0, 30: 20.0}, METRICS["rmse"]) == 20
