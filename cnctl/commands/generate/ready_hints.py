"""Ready hints that are not of their condition, or do not look so; each is said in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from cnctl.commands.generate.loaded_controls import LoadedControl
from cnctl.hints.outputs import stored_record
from cnctl.models.published import published_controlnets
from cnctl.plugin import RGB, Condition

COLOURFUL = 32
"""Difference between the channels of a pixel, in levels, from which it has a colour."""
MOST_COLOURED = 0.02
"""Share of the pixels of a grey hint that may have a colour."""
MOST_UNKNOWN = 0.25
"""Share of the pixels of a hint with a palette that may have another colour, at borders."""


def note_unlikely_hints(
    controls: Sequence[LoadedControl],
    hints: Sequence[np.ndarray],
    sources: Sequence[Path],
    note: Callable[[str], None],
) -> None:
    """Report which ready hints are of another condition, or look like something else."""
    for control, hint, source in zip(controls, hints, sources, strict=True):
        if not control.ready:
            continue
        made_for = stored_record(source).get("condition", control.condition.name)
        if made_for != control.condition.name:
            note(f"{source}: a hint of {made_for}, read as one of {control.condition.name}")
        elif fault := unlikely_hint(control.condition, hint):
            note(f"{source}: {fault}")


def unlikely_hint(condition: Condition, hint: np.ndarray) -> str:
    """Why this is unlikely to be a hint of the condition, and what to do; "" where it may be one.

    hint: uint8 or uint16 (H, W, C).
    """
    if condition.palette:
        unknown = _share_of_other_colours(hint, condition.palette.values())
        if unknown > MOST_UNKNOWN:
            return (
                f"{unknown:.0%} of the hint has colours that {condition.name} does not use; "
                "if it is a photograph, leave out --hint or hint="
            )
    elif _is_grey(condition) and _has_colours(hint):
        return (
            f"the hint has colours, and hints of {condition.name} are grey; "
            "if it is a photograph, leave out --hint or hint="
        )
    elif condition.metric == "edge_f1" and _is_black_on_white(hint):
        return (
            f"the hint is mostly white; {condition.name} reads white lines on black, "
            "so invert it if its lines are black"
        )
    return ""


def _is_grey(condition: Condition) -> bool:
    """Whether its hints are depths or lines; a plugin may leave the metric of lines as it is."""
    lines = condition.metric == "edge_f1" and bool(published_controlnets(condition.name))
    return lines or condition.metric == "depth_rmse"


def _has_colours(hint: np.ndarray) -> bool:
    return bool((np.ptp(hint, axis=-1) >= COLOURFUL).mean() > MOST_COLOURED)


def _share_of_other_colours(hint: np.ndarray, palette: Iterable[RGB]) -> float:
    """The share of a hint's pixels, uint8 (H, W, 3), that are neither black, which means
    unlabelled, nor a colour of the palette.
    """
    known = _as_numbers(np.array([(0, 0, 0), *palette]))
    return float(1 - np.isin(_as_numbers(hint), known).mean())


def _as_numbers(colours: np.ndarray) -> np.ndarray:
    """One number for each colour, (..., 3) -> (...)."""
    return colours.astype(np.int64) @ (1 << 16, 1 << 8, 1)


def _is_black_on_white(hint: np.ndarray) -> bool:
    """Whether it is a drawing, grey and nearly of two values, of which most are the bright one."""
    bright, dark = (hint > 223).mean(), (hint < 32).mean()
    return bright > 0.6 and bright + dark > 0.9 and not (hint != hint[..., :1]).any()
