"""ControlNets whose files are found: read, joined, moved to another base, and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnctl.commands.convert.output import Converted, ConvertResult, Output, measured_digest, write
from cnctl.commands.convert.progress import Meter, OnEvent
from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.sources import find_base
from cnctl.errors import CnctlError
from cnctl.models.conversion import Conversion
from cnctl.models.layouts import find_layout
from cnctl.models.prediction import misfit
from cnctl.tensorfiles.base_update_file import BASE_UPDATE, has_base_update, load_base_update
from cnctl.tensorfiles.lazy import ready
from cnctl.tensorfiles.write import check_target, names_a_file


def convert_files(
    paths: Sequence[Path], request: ConvertRequest, *, on_event: OnEvent
) -> ConvertResult:
    """Convert the sources of a request, which are at these paths; as `cnctl.convert`."""
    files = find_layout(paths[0]).load_conversion(paths[0])
    output = _output(request, files)
    check_target(output.path, overwrite=output.overwrite)
    config = Path(request.config) if request.config else None
    sources = [
        files.open(path, config=config, base=output.base, condition=request.condition)
        for path in paths
    ]
    meter = Meter(on_event, files.bytes(sources[0].architecture))
    converted = _join(sources, request, files, meter)
    if request.from_base or request.to_base:
        converted = _move(converted, request, files, meter)
    converted = _keep_base_update(converted, sources, output)
    return write(converted, output, verify=request.verify, meter=meter)


def _output(request: ConvertRequest, files: Conversion) -> Output:
    return Output(
        files=files,
        path=Path(request.target),
        form=files.choose_form(request.to, Path(request.target)),
        dtype=request.dtype,
        base=find_base(request.base) if request.base else None,
        rank=request.rank,
        overwrite=request.overwrite,
    )


def _join(
    sources: Sequence[Any], request: ConvertRequest, files: Conversion, meter: Meter
) -> Converted:
    """The one ControlNet, or the average of several, with what is known about it."""
    first = sources[0]
    shares = request.shares or [1 / len(sources)] * len(sources)
    if len(shares) != len(sources):
        raise CnctlError(
            f"{len(shares)} shares for {len(sources)} ControlNets", hint="give one for each"
        )
    for other in sources[1:]:
        if other.architecture != first.architecture or other.config != first.config:
            raise CnctlError(
                f"{other.path} has another structure than {first.path}",
                hint="only ControlNets of one family and one kind of hint can be averaged",
            )
    origins: list[dict[str, Any]] = [
        {"form": one.form.label, "sha256": measured_digest(one.path, meter)} for one in sources
    ]
    notes = [note for one in sources for note in one.notes]
    tensors, origin = files.read(first), origins[0]
    if len(sources) > 1:
        tensors = files.average([files.read(one) for one in sources], shares)
        mixed = zip(origins, shares, strict=True)
        origin = origin | {"averaged": [one | {"share": share} for one, share in mixed]}
    description, said = _describe(first, request.condition, files)
    return Converted(
        tensors=tensors,
        architecture=first.architecture,
        config=first.config,
        description=description,
        origin=origin,
        notes=(*notes, *said),
        source=first.path,
    )


def _describe(source: Any, condition: str, files: Conversion) -> tuple[dict[str, Any], list[str]]:
    """The description to store with the weights, and notes about it for the user."""
    known = files.describe(source)
    description = source.description | {
        name: known[name] for name in ("family", "hint_channels") if known[name]
    }
    notes = []
    named = files.named_condition(source.path)
    if condition or "condition" not in description:
        description["condition"] = condition or named
        if named and not condition:
            notes.append(f"the condition {named} is taken from the file's name")
    if quirk := files.known_quirk(source.path):
        description["hints"] = quirk
        notes.append(quirk)
    return {name: value for name, value in description.items() if value != ""}, notes


def _keep_base_update(converted: Converted, sources: Sequence[Any], output: Output) -> Converted:
    """Add what the base has learnt too, where the source has that and the target can hold it."""
    first, files = sources[0], output.files
    if len(sources) > 1 or not (files.is_full(first) or has_base_update(first.path)):
        return converted
    if names_a_file(output.path):
        lost = "what its base has learnt too is left out; a folder as DST would hold it"
        kept_notes = (*converted.notes, lost)
        return replace(converted, notes=kept_notes) if has_base_update(first.path) else converted
    rounded = ""
    if not files.is_full(first):
        kept = {name: ready(tensor) for name, tensor in load_base_update(first.path).items()}
    elif output.base:
        kept, rounded = files.base_update(files.open_base(first.path), files.open_base(output.base))
    else:
        return converted
    moved = f"its U-Net has moved in {len(kept)} tensors from the base, which {BASE_UPDATE} holds"
    same = "its U-Net is that of the base"
    within = f"; other tensors differ by the rounding to {rounded} alone" if kept else ""
    within = within or f", apart from the rounding to {rounded}"
    notes = (*converted.notes, (moved if kept else same) + (within if rounded else ""))
    return replace(converted, base_update=kept, notes=notes)


def _move(
    converted: Converted, request: ConvertRequest, files: Conversion, meter: Meter
) -> Converted:
    """The ControlNet on another base: to its copied weights is added what the bases differ by."""
    if not (request.from_base and request.to_base):
        raise CnctlError(
            "--from-base and --to-base must be given together",
            hint="name the base that the ControlNet was trained on, and the new base",
        )
    bases = (find_base(request.from_base), find_base(request.to_base))
    old, new = map(files.open_base, bases)
    own = converted.architecture, converted.config
    copied = {"old": files.read_base(old, *own), "new": files.read_base(new, *own)}
    moved = {
        "from_base": measured_digest(old.path, meter),
        "to_base": measured_digest(new.path, meter),
    }
    odd = misfit(converted.description, files.read_prediction(bases[1]))
    return replace(
        converted,
        tensors=files.transfer(converted.tensors, **copied),
        origin={**converted.origin, **moved},
        notes=(*converted.notes, odd) if odd else converted.notes,
    )
