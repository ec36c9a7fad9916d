"""Whether the fields of a condition have the types that they are declared with."""

from __future__ import annotations

from collections.abc import Callable

from cnctl.plugin import (
    Condition,
    GenerateDefaults,
    GroundTruth,
    Metric,
    Option,
    TrainDefaults,
    WeightFile,
    Weights,
)


def misfit(condition: Condition) -> str:
    """Return which field has a value of the wrong type, in words; "" where all are right."""
    items = [
        ("summary", condition.summary, str),
        ("licence", condition.licence, str),
        ("base", condition.base, str),
        ("hint_channels", condition.hint_channels, int),
        ("masked", condition.masked, bool),
        ("load_detector", condition.load_detector, Callable),
        ("training_options", condition.training_options, Callable | None),
        ("augment", condition.augment, Callable | None),
        ("flip", condition.flip, Callable | None),
        ("draw", condition.draw, Callable | None),
        ("from_maps", condition.from_maps, Callable | None),
        ("ground_truth", condition.ground_truth, GroundTruth | None),
        ("metric", condition.metric, str | Metric),
        ("train", condition.train, TrainDefaults),
        ("generate", condition.generate, GenerateDefaults),
        ("weights", condition.weights, list | tuple),
        ("references", condition.references, list | tuple),
        *((f"options[{name!r}]", option, Option) for name, option in condition.options.items()),
        *((f"files[{key!r}]", file, WeightFile) for key, file in condition.files.items()),
    ]
    for name, value, kind in items:
        if not isinstance(value, kind):  # type: ignore[arg-type]
            return f"has {name} of type {type(value).__name__}"
    if not all(isinstance(weights, Weights) for weights in condition.weights):
        return "has weights that are not cnctl.plugin.Weights"
    if not all(_is_colour(rgb) for rgb in condition.palette.values()):
        return "has a palette of other than (red, green, blue), each 0 to 255"
    return ""


def _is_colour(rgb: object) -> bool:
    return (
        isinstance(rgb, tuple | list)
        and len(rgb) == 3
        and all(isinstance(value, int) and 0 <= value <= 255 for value in rgb)
    )
