"""`cnctl convert --init-from-base`: a ControlNet before its first step of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cnctl.commands.convert.output import Converted, ConvertResult, Output, measured_digest, write
from cnctl.commands.convert.progress import Meter
from cnctl.commands.convert.request import InitRequest
from cnctl.commands.convert.sources import find_base
from cnctl.commands.shared.events import Stage, ignore
from cnctl.errors import CnctlError
from cnctl.models.conversion import Conversion
from cnctl.models.layouts import find_layout
from cnctl.models.prediction import RECORDED
from cnctl.models.signatures import BASE
from cnctl.tensorfiles.write import check_target


def init_from_base(
    request: InitRequest, *, on_event: Callable[[Stage], None] = ignore
) -> ConvertResult:
    """Write an untrained ControlNet for a base, as the original's tool_add_control does.

    The trainable copy holds the base's encoder and middle block, the zero convolutions are zero,
    and the hint encoder starts from the seed as in training: it changes nothing yet, exactly.
    """
    base_path = find_base(request.base)
    files = find_layout(base_path, BASE).load_conversion(base_path)
    _check(request, files)
    output = Output(
        path=Path(request.target),
        form=files.choose_form(request.to, Path(request.target)),
        files=files,
        dtype=request.dtype,
        overwrite=request.overwrite,
    )
    check_target(output.path, overwrite=output.overwrite)
    base = files.open_base(base_path)
    architecture, config, family = files.initial(
        base,
        config=Path(request.config) if request.config else None,
        hint_channels=request.hint_channels,
        hint_encoder=request.hint_encoder,
    )
    meter = Meter(on_event, files.bytes(architecture))
    known = {
        "condition": request.condition,
        "family": family,
        RECORDED: files.read_prediction(base_path),
    }
    description = {name: value for name, value in known.items() if value}
    digest = measured_digest(base.path, meter)
    untrained = Converted(
        tensors=files.initial_tensors(base, architecture, config, seed=request.seed),
        architecture=architecture,
        config=config,
        description=description | {"hint_channels": request.hint_channels},
        origin={"form": "base", "sha256": digest, "seed": request.seed},
        notes=("untrained: it changes nothing until it is trained",),
        source=base.path,
    )
    return write(untrained, output, verify=False, meter=meter)


def _check(request: InitRequest, files: Conversion) -> None:
    if request.hint_encoder not in files.hint_encoders:
        raise CnctlError(
            f"unknown hint encoder {request.hint_encoder!r}",
            hint=f"use one of {', '.join(files.hint_encoders)}",
        )
