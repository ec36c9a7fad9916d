"""The end of every conversion: tensors are written in a form, and compared with their source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cnctl.commands.convert.progress import Meter
from cnctl.commands.convert.verify import compare
from cnctl.errors import CnctlError
from cnctl.models.conversion import Conversion
from cnctl.tensorfiles.digest import Digest, resolve
from cnctl.tensorfiles.lazy import Tensors
from cnctl.tensorfiles.parts import weight_bytes
from cnctl.tensorfiles.stream import total_bytes
from cnctl.version import __version__

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
RANK = 128
"""The rank of Stability's smaller Control-LoRAs; the larger have 256."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A ControlNet that is ready to be written."""

    tensors: Tensors
    """Tensors by diffusers' names; they are read when they are written."""
    architecture: Any
    config: Mapping[str, Any]
    description: Mapping[str, Any]
    origin: Mapping[str, Any]
    """What it was made from: form and Digest of the (first) source, and what was done to it."""
    notes: tuple[str, ...]
    source: Path
    """What messages name."""
    base_update: Tensors = field(default_factory=dict)
    """What the base has learnt too, by its parameter names; float32."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where and in which form to write."""

    path: Path
    form: str
    files: Conversion
    dtype: str | None = None
    base: Path | None = None
    rank: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise CnctlError(
                f"unknown dtype {self.dtype!r}", hint=f"use one of {', '.join(DTYPES)}"
            )
        if self.files.is_low_rank(self.form) and not self.base:
            raise CnctlError(
                "a Control-LoRA needs the base of its ControlNet",
                hint="name the base that it was trained on with --base",
            )
        if self.rank is not None and (not self.files.is_low_rank(self.form) or self.rank < 1):
            raise CnctlError(
                f"a rank of {self.rank} does not apply here",
                hint="give --rank, 1 or more, with --to control-lora",
            )


@dataclass(frozen=True, kw_only=True)
class ConvertResult:
    """What was written, and what a user should know about it."""

    path: Path
    form: str
    source_form: str
    source_sha256: str
    dtype: str
    """The dtypes written, e.g. "float16"."""
    tensors: int
    parameters: int
    notes: tuple[str, ...]
    error: float | None = None
    """Share of the learnt change that a Control-LoRA loses; None for other forms."""
    difference: float | None = None
    """Largest difference of the residuals from the source's; None if not compared."""
    relative_difference: float | None = None
    """The same as a share of the largest residual."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path)}


def write(converted: Converted, output: Output, *, verify: bool, meter: Meter) -> ConvertResult:
    """Write it; the target appears whole or not at all.

    Raises CnctlError for values that are not finite or do not fit the dtype, OutputError where
    it cannot be written or, with `verify`, gives other residuals than its source.
    """
    files = output.files
    files.check_form(converted.architecture, output.form, converted.source)
    # Run first: the target may replace the source.
    expected = _expected_residuals(converted, files) if verify else []
    dtype = DTYPES[output.dtype] if output.dtype else None
    tensors = files.check(converted.tensors, where=converted.source, dtype=dtype)
    origin = {**converted.origin, "by": f"cnctl {__version__}"}
    architecture, error = converted.architecture, None
    if files.is_low_rank(output.form) and output.base:
        base, rank = files.open_base(output.base), output.rank or RANK
        origin["base"] = measured_digest(base.path, meter)
        copied = files.read_base(base, architecture, converted.config)
        advance = meter.weights(total_bytes(tensors))
        named, error = files.factorise(tensors, copied, architecture, rank=rank, advance=advance)
        origin |= {"rank": rank, "error": error}
    else:
        named = files.rename(tensors, architecture, output.form)
    files.write(
        output.path,
        named,
        config=converted.config,
        base_update=converted.base_update,
        description=lambda done: {**converted.description, "converted": resolve(origin, wait=done)},
        overwrite=output.overwrite,
        advance=meter.weights(total_bytes(named)),
    )
    result = ConvertResult(
        path=output.path,
        form=output.form,
        source_form=converted.origin["form"],
        source_sha256=resolve(origin["sha256"], wait=True),
        dtype=", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in named.values()})),
        tensors=len(named),
        parameters=sum(tensor.numel for tensor in named.values()),
        notes=converted.notes,
        error=error,
    )
    if not verify:
        return result
    difference, share = _compare(expected, output)
    return replace(result, difference=difference, relative_difference=share)


def _expected_residuals(converted: Converted, files: Conversion) -> list[torch.Tensor]:
    return files.residuals(
        converted.tensors, converted.architecture, converted.config, where=converted.source
    )


def _compare(expected: list[torch.Tensor], output: Output) -> tuple[float, float]:
    return compare(
        expected,
        output.path,
        files=output.files,
        base=output.base,
        dtype=DTYPES[output.dtype] if output.dtype else None,
        lossy=output.files.is_low_rank(output.form),
    )


def measured_digest(path: Path, meter: Meter) -> Digest:
    """The sha256 of a file, computed meanwhile as a part of the work."""
    return Digest(path, advance=meter.part(weight_bytes(path)))
