"""Declarations of what several commands are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cnctl.settings.declaration import Flag, at_least, one_of

BatchSize = Annotated[
    int | None, Flag("Images denoised at once.", default="4; 1 with --low-memory"), at_least(1)
]
Columns = Annotated[
    str | None,
    Flag(
        "Names in the data: image=A,hint=B,prompt=C; hint= detects hints.",
        metavar="ROLE=NAME,...",
    ),
]
DetectorOptions = Annotated[
    Sequence[str], Flag("Detector option, repeatable.", ("--option",), metavar="KEY=VALUE")
]
Device = Annotated[str | None, Flag("cpu, cuda, cuda:1, mps.", default="the fastest")]
Dtype = Annotated[str | None, Flag("float32, bfloat16, float16.", default="by device")]
LowMemory = Annotated[bool, Flag("Keep networks on the host; decode large images in tiles.")]
NegativePrompt = Annotated[str, Flag("What not to show.")]
Overwrite = Annotated[bool, Flag("Replace existing files.")]
Quantize = Annotated[
    str | None,
    Flag("Linear layers of the base in 8 or 4 bits; needs cnctl[quantize]."),
    one_of("int8", "fp8", "nf4"),
]
Resume = Annotated[bool, Flag("Keep existing images of the same request.")]
