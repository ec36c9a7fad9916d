"""`cnctl convert`: the same weights in another form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import cnctl
from cnctl.errors import CnctlError, MissingError, OutputError
from cnctl.formats import keymap
from cnctl.formats.detect import PREFIX
from cnctl.formats.digest import sha256
from cnctl.formats.source import METADATA_KEY, Source, open_source
from cnctl.formats.tensors import Tensors, check_finite, read_tensors
from cnctl.formats.write import check_target, write_file, write_folder

FORMS = ("diffusers", "original", "bare")
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth"})
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""How far residuals may move, relative to the largest, when weights are stored in fewer bits."""


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
    difference: float | None = None
    """Largest difference of the 13 residuals between both files; None without `verify`."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path)}


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    config: str | Path | None = None,
    verify: bool = False,
    overwrite: bool = False,
) -> ConvertResult:
    """Write a ControlNet in another form; the target appears whole or not at all.

    source: any file or folder that `load_controlnet` reads, or a cached hub id.
    to: "diffusers", "original" (`control_model.` before each key) or "bare" (no prefix). None:
    "original" where the target ends in .safetensors, else "diffusers".
    config: a config.json to take the number of heads from, where the source does not tell it.
    Raises CnctlError when the source is no whole ControlNet, OutputError when the target exists.
    """
    target = Path(target)
    form = _form(to, target)
    if dtype is not None and dtype not in DTYPES:
        raise CnctlError(f"unknown dtype {dtype!r}", hint=f"use one of {', '.join(DTYPES)}")
    check_target(target, overwrite=overwrite)
    opened = open_source(_find(source), config=Path(config) if config else None)
    if form != "diffusers" and opened.architecture.hint_encoder != "released":
        raise CnctlError(
            f"{opened.path} has the paper's hint encoder, unknown to the original's form",
            hint="use --to diffusers",
        )
    tensors = read_tensors(opened)
    check_finite(tensors, opened)
    tensors = _cast(tensors, opened, dtype)
    digest = sha256(opened.path)
    _write(target, tensors, opened, form=form, digest=digest, overwrite=overwrite)
    result = ConvertResult(
        path=target,
        form=form,
        source_form=opened.form.label,
        source_sha256=digest,
        dtype=", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()})),
        tensors=len(tensors),
        parameters=opened.parameters,
        notes=opened.notes,
    )
    del tensors  # they would stand beside both modules in memory
    return replace(result, difference=_verify(opened, target, dtype)) if verify else result


def _form(to: str | None, target: Path) -> str:
    is_file = target.suffix == ".safetensors"
    if target.suffix in PICKLES:
        raise CnctlError(
            f"{target} would be a pickle; cnctl writes safetensors only",
            hint=f"write {target.with_suffix('.safetensors')}, which webui and ComfyUI read too",
        )
    form = to or ("original" if is_file else "diffusers")
    if form not in FORMS:
        raise CnctlError(f"unknown form {form!r}", hint=f"use one of {', '.join(FORMS)}")
    if form != "diffusers" and not is_file:
        raise CnctlError(
            f"the form {form!r} is one file, and {target} does not end in .safetensors",
            hint=f"write {target}.safetensors",
        )
    return form


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.exists() or str(source).count("/") != 1:
        return path
    from cnctl.jobs.weights import cached_folder  # imports diffusers, which takes seconds

    if cached := cached_folder(str(source)):
        return cached
    raise MissingError(
        f"{source} is no file, no folder, and not in the Hugging Face cache",
        hint="check the path, or fetch it with cnctl models pull",
    )


def _cast(tensors: Tensors, source: Source, dtype: str | None) -> Tensors:
    if dtype is None:
        return tensors
    cast = {name: tensor.to(DTYPES[dtype]) for name, tensor in tensors.items()}
    try:
        check_finite(cast, source)
    except CnctlError as error:
        raise CnctlError(
            f"{source.path}: some values are too large for {dtype}",
            hint="use --dtype bfloat16 or float32",
        ) from error
    return cast


def _write(
    target: Path, tensors: Tensors, source: Source, *, form: str, digest: str, overwrite: bool
) -> None:
    origin = {"form": source.form.label, "sha256": digest, "by": f"cnctl {cnctl.__version__}"}
    description = source.description | {"converted": origin}
    config = source.config
    if target.suffix != ".safetensors":
        write_folder(target, tensors, config=config, description=description, overwrite=overwrite)
        return
    written = json.dumps({"config": config, "description": description}, sort_keys=True)
    named = tensors if form == "diffusers" else _original_names(tensors, source, form)
    write_file(target, named, metadata={METADATA_KEY: written}, overwrite=overwrite)


def _original_names(tensors: Tensors, source: Source, form: str) -> Tensors:
    prefix = PREFIX if form == "original" else ""
    return {
        prefix + pair.original: tensors[pair.diffusers]
        for pair in keymap.pairs(source.architecture)
    }


def _verify(source: Source, target: Path, dtype: str | None) -> float:
    """Run both files on the same random input; OutputError when they differ too much."""
    written = open_source(target)
    before, after = _residuals(source), _residuals(written)
    difference = max(
        float((one - other).abs().max()) for one, other in zip(before, after, strict=True)
    )
    largest = max(float(residual.abs().max()) for residual in before)
    allowed = 0.0 if dtype is None else TOLERANCE[DTYPES[dtype]] * largest
    if not difference <= allowed:
        raise OutputError(
            f"{target} behaves otherwise than {source.path}: residuals differ by {difference:.2g}",
            hint="do not use it; please report this",
        )
    return difference


@torch.no_grad()
def _residuals(source: Source) -> list[torch.Tensor]:
    """What the ControlNet says to noise, an unnamed prompt and a random hint, in float32."""
    from cnctl.core.controlnet import use_paper_hint_encoder  # these import diffusers
    from cnctl.formats.controlnet import load_controlnet

    encoders: Mapping[str, Any] = {"paper": use_paper_hint_encoder}
    controlnet, _ = load_controlnet(source, dtype=torch.float32, hint_encoders=encoders)
    a = source.architecture
    factor = 8 if a.hint_encoder == "paper" else 2 ** (len(a.hint_widths) - 1)
    side = max(8, 2 ** (len(a.widths) - 1))
    random = torch.Generator().manual_seed(0)
    down, middle = controlnet(
        torch.randn(1, a.in_channels, side, side, generator=random),
        torch.tensor([500]),
        torch.randn(1, 77, a.text_width, generator=random),
        torch.rand(1, a.hint_channels, factor * side, factor * side, generator=random),
        return_dict=False,
    )
    return [*down, middle]
