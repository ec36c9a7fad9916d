"""All rules, their usual bounds, and what they find of an example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cnctl.curation.duplicates import MOST
from cnctl.curation.reasons import Reason
from cnctl.curation.rules import general, of_hints
from cnctl.curation.rules.bounds import Bounds, parse_bounds
from cnctl.curation.rules.subject import Found, Judged, Subject
from cnctl.errors import CnctlError

S = TypeVar("S")


@dataclass(frozen=True)
class Rule(Generic[S]):
    """measure: of a subject, None where it does not apply. bounds: the usual ones.

    absent: the reason for the number 0, where it is another.
    """

    reason: Reason
    measure: Callable[[S], float | None]
    bounds: Bounds
    absent: Reason | None = None

    def why(self, number: float) -> Reason:
        """The reason to leave out what has this number."""
        return self.absent if self.absent and not number else self.reason


CAPTION = "caption-words"
OF_IMAGES: Mapping[str, Rule[Subject]] = {
    "short-side": Rule(Reason.TINY, general.short_side, Bounds(64)),
    "aspect": Rule(Reason.ASPECT, general.aspect, Bounds(most=4)),
    "colour": Rule(Reason.GREY, general.colour, Bounds()),
    "sharpness": Rule(Reason.BLURRED, general.sharpness, Bounds()),
    CAPTION: Rule(
        Reason.CAPTION_LENGTH, general.caption_words, Bounds(1), absent=Reason.NO_CAPTION
    ),
}
OF_HINTS: Mapping[str, Rule[Found]] = {
    "contrast": Rule(Reason.DEAD_HINT, of_hints.contrast, Bounds(1)),
    "edge-density": Rule(Reason.EDGE_DENSITY, of_hints.edge_density, Bounds(0.001, 0.6)),
    "key-points": Rule(Reason.FEW_KEY_POINTS, of_hints.key_points, Bounds(0.3)),
    "lines": Rule(Reason.FEW_LINES, of_hints.lines, Bounds(1)),
    "depth-range": Rule(Reason.DEPTH_RANGE, of_hints.depth_range, Bounds(0.02)),
}
DUPLICATES = "duplicates"
"""The rule on the whole set: how many of the 64 bits of two hashes may differ."""
USUAL = {
    **{name: rule.bounds for name, rule in OF_IMAGES.items()},
    **{name: rule.bounds for name, rule in OF_HINTS.items()},
    DUPLICATES: Bounds(most=3),
}
"""The bounds of all rules that are not given."""


def parse_rules(given: Sequence[str]) -> dict[str, Bounds]:
    """The bounds of all rules: those in "sharpness=50..", over the usual ones."""
    found = dict(USUAL)
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if name not in USUAL or not equals:
            raise CnctlError(f"--rule {text}: no such rule", hint=f"known are {', '.join(USUAL)}")
        found[name] = parse_bounds(value, f"--rule {name}")
    _check_distance(found[DUPLICATES])
    return found


def _check_distance(bounds: Bounds) -> None:
    most = bounds.most
    if bounds.least is not None or (most is not None and most not in range(MOST + 1)):
        raise CnctlError(
            f"--rule {DUPLICATES}: a number of bits from 0 to {MOST}",
            hint=f"write {DUPLICATES}=..3, or {DUPLICATES}=off",
        )


def judge_image(subject: Subject, bounds: Mapping[str, Bounds]) -> Judged:
    """What the rules on images find."""
    return _judged(OF_IMAGES, subject, bounds)


def judge_caption(text: str, bounds: Mapping[str, Bounds]) -> Judged:
    """What the rule on captions finds."""
    words = len(text.split())
    failed = () if bounds[CAPTION].allow(words) else (OF_IMAGES[CAPTION].why(words),)
    return Judged({CAPTION: words}, failed)


def judge_hints(hints: Mapping[str, Found], bounds: Mapping[str, Bounds]) -> Judged:
    """What the rules on hints find; where there are several hints, names are "canny.contrast"."""
    judged = Judged()
    for condition, found in hints.items():
        one = _judged(OF_HINTS, found, bounds)
        prefix = f"{condition}." if len(hints) > 1 else ""
        named = {prefix + name: value for name, value in one.numbers.items()}
        judged = Judged({**judged.numbers, **named}, (*judged.failed, *one.failed))
    return judged


def _judged(rules: Mapping[str, Rule[S]], subject: S, bounds: Mapping[str, Bounds]) -> Judged:
    measured = {name: rule.measure(subject) for name, rule in rules.items()}
    numbers = {name: value for name, value in measured.items() if value is not None}
    failed = [
        rules[name].why(value) for name, value in numbers.items() if not bounds[name].allow(value)
    ]
    return Judged(numbers, tuple(failed))
