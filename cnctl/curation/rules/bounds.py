"""The bounds of a rule."""

from __future__ import annotations

from dataclasses import dataclass

from cnctl.errors import CnctlError

OFF = "off"


@dataclass(frozen=True)
class Bounds:
    """Both ends are included; None for no bound."""

    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        """As `parse_bounds` reads it; "" for none."""
        ends = ["" if end is None else f"{end:g}" for end in (self.least, self.most)]
        return "..".join(ends) if any(ends) else ""

    def allow(self, value: float) -> bool:
        """Whether the value lies within them."""
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)


def parse_bounds(text: str, flag: str) -> Bounds:
    """The bounds in "0.1..0.5", "0.1..", "..0.5" or "off"; CnctlError for anything else."""
    if text == OFF:
        return Bounds()
    least, dots, most = text.partition("..")
    try:
        if not dots:
            raise ValueError(text)
        low, high = float(least or "-inf"), float(most or "inf")
        if not low <= high:
            raise ValueError(text)
        return Bounds(low if least else None, high if most else None)
    except ValueError as error:
        raise CnctlError(
            f"{flag}: {text!r} is not a range", hint="write LEAST..MOST, LEAST.., ..MOST or off"
        ) from error
