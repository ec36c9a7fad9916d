"""Why an input is not in the data set: a closed list, one reason for each that is left out."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The first that applies, in this order."""

    KILLED = "killed workers"
    TIMED_OUT = "timed out"
    UNREADABLE = "cannot be read"
    UNDECODABLE = "cannot be decoded"
    TINY = "tiny"
    ASPECT = "odd aspect"
    GREY = "grey"
    BLURRED = "blurred"
    NO_CAPTION = "no caption"
    CAPTION_LENGTH = "caption length"
    DETECTOR_FAILED = "detector failed"
    NOTHING_FOUND = "nothing found"
    DEAD_HINT = "dead hint"
    EDGE_DENSITY = "edge density"
    FEW_KEY_POINTS = "few key points"
    FEW_LINES = "few lines"
    DEPTH_RANGE = "depth range"
    DUPLICATE = "duplicate"


FAILURES = frozenset(
    {
        *(Reason.KILLED, Reason.TIMED_OUT, Reason.UNREADABLE, Reason.UNDECODABLE),
        Reason.DETECTOR_FAILED,
    }
)
"""What is wrong with an input, where the others are rules that it does not meet."""
