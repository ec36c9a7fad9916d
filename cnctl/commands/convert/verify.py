"""`cnctl convert --verify`: source and result run on the same random input."""

from __future__ import annotations

from pathlib import Path

import torch

from cnctl.errors import OutputError
from cnctl.models.conversion import Conversion

TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""How far residuals may move, relative to the largest, when weights are stored in fewer bits."""


def compare(
    expected: list[torch.Tensor],
    output: Path,
    *,
    files: Conversion,
    base: Path | None,
    dtype: torch.dtype | None,
    lossy: bool,
) -> tuple[float, float]:
    """The largest difference of the written file's residuals from the expected ones.

    Absolute, and as a share of the largest residual. OutputError where it is more than the dtype
    explains, unless the form is a lossy one.
    """
    source = files.open(output, base=base)
    found = files.residuals(
        files.read(source), source.architecture, source.config, where=source.path
    )
    pairs = list(zip(expected, found, strict=True))
    difference = max(float((one - other).abs().max()) for one, other in pairs)
    largest = max(float(residual.abs().max()) for residual in expected)
    share = difference / largest if largest else difference
    allowed = TOLERANCE[dtype] if dtype else 0.0
    if not lossy and not share <= allowed:
        raise OutputError(
            f"{output} does not reproduce its source's residuals: they differ by {difference:.2g}, "
            f"{share:.1%} of the largest",
            hint=_advice(dtype),
        )
    return difference, share


def _advice(dtype: torch.dtype | None) -> str:
    if dtype == torch.float16:
        # Its numbers below 6e-5 have fewer digits, and zero convolutions are so small at first.
        return "use bfloat16 or float32, which hold the small weights of a short training"
    return "do not use it; please report this"
