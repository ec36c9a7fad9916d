import numpy as np
from scipy import stats

from cnctl.commands.evaluate.intervals import mean_interval


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=40)
    found = mean_interval(values)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.mean == values.mean()
    spread = expected.high - expected.low
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.03 * spread)


def test_one_value_has_no_width() -> None:
    found = mean_interval([0.25])
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)
