import numpy as np
import pytest

from cnctl.commands.evaluate.intervals import mean_interval


@pytest.mark.parametrize("count", [2, 40])
def test_the_interval_holds_the_middle_of_the_resampled_means(count: int) -> None:
    """The percentile bootstrap, written out."""
    values = np.random.default_rng(3).gamma(2.0, size=count)
    rng = np.random.default_rng(0)
    means = [values[rng.integers(count, size=count)].mean() for _ in range(10_000)]
    found = mean_interval(list(values))
    assert found.mean == values.mean()
    expected = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12)


def test_one_value_has_no_width() -> None:
    found = mean_interval([0.25])
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)
