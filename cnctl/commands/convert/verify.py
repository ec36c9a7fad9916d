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
) -> float:
    """The largest difference of the residuals of the written file from the expected ones.

    OutputError where that is more than the dtype explains, unless the form is a lossy one.
    """
    source = files.open(output, base=base)
    found = files.residuals(
        files.read(source), source.architecture, source.config, where=source.path
    )
    pairs = list(zip(expected, found, strict=True))
    difference = max(float((one - other).abs().max()) for one, other in pairs)
    largest = max(float(residual.abs().max()) for residual in expected)
    allowed = TOLERANCE[dtype] * largest if dtype else 0.0
    if not lossy and not difference <= allowed:
        raise OutputError(
            f"{output} does not give its source's residuals: they differ by {difference:.2g}",
            hint="do not use it; please report this",
        )
    return difference
