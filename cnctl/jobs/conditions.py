"""Moved to `cnctl.testing`."""

import warnings

from cnctl.testing import check_condition as check_condition

warnings.warn(
    "cnctl.jobs.conditions has moved: import check_condition from cnctl.testing",
    DeprecationWarning,
    stacklevel=2,
)
