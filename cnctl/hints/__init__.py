"""Hints: run a detector, measure fidelity, find detectors' weights."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "load_detector":  # where plugins written for cnctl 0.1 import it from
        import warnings

        from cnctl.hints.run import load_detector

        warnings.warn(
            "cnctl.hints.load_detector has moved: import it from cnctl.testing",
            DeprecationWarning,
            stacklevel=2,
        )
        return load_detector
    raise AttributeError(f"module 'cnctl.hints' has no attribute {name!r}")
