"""What a condition states of itself, as JSON; its callables stay in the process that loaded it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NoReturn

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

CALLABLE = {"callable": True}


def to_facts(condition: Condition) -> dict[str, Any]:
    """Return the fields of a condition as JSON values."""
    return {each.name: _plain(getattr(condition, each.name)) for each in fields(condition)}


def from_facts(facts: Mapping[str, Any]) -> Condition:
    """Return the condition of these facts; its callables raise where they are called."""
    known = {name: elsewhere if value == CALLABLE else value for name, value in facts.items()}
    metric, truth = known["metric"], known["ground_truth"]
    if not isinstance(metric, str):
        metric = Metric(**metric, score=elsewhere)
    return Condition(
        **known
        | {
            "files": {key: WeightFile(**file) for key, file in known["files"].items()},
            "options": {name: _option(option) for name, option in known["options"].items()},
            "palette": {label: tuple(rgb) for label, rgb in known["palette"].items()},
            "train": TrainDefaults(**known["train"]),
            "generate": GenerateDefaults(**known["generate"]),
            "weights": tuple(Weights(**weights) for weights in known["weights"]),
            "references": tuple(known["references"]),
            "metric": metric,
            "ground_truth": truth and GroundTruth(**truth, read=elsewhere),
        }
    )


def elsewhere(*arguments: object, **named: object) -> NoReturn:
    """Stand for a callable that another process has loaded."""
    raise RuntimeError("this condition was only looked at; get_condition loads it")


def _option(facts: Mapping[str, Any]) -> Option:
    return Option(**{**facts, "choices": tuple(facts["choices"])})


def _plain(value: Any) -> Any:
    match value:
        case Metric(name=name, higher_is_better=higher):
            return {"name": name, "higher_is_better": higher}
        case GroundTruth(name=name):
            return {"name": name}
        case Option() | WeightFile() | TrainDefaults() | GenerateDefaults() | Weights():
            return asdict(value)
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _ if callable(value):
            return CALLABLE
    return value
