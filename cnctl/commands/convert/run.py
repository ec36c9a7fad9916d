"""`cnctl convert`: the same weights in another form, on another base, or joined with others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnctl.commands.convert.output import ConvertResult, Made, Output, measured_digest, write
from cnctl.commands.convert.progress import Meter, Progress, silence
from cnctl.errors import CnctlError, MissingError
from cnctl.models.unet.checkpoint import published
from cnctl.models.unet.checkpoint.base_file import open_unet
from cnctl.models.unet.checkpoint.combine import average, transfer
from cnctl.models.unet.checkpoint.forms import choose_form
from cnctl.models.unet.checkpoint.recognise import FULL
from cnctl.models.unet.checkpoint.source import Source, describe, open_source
from cnctl.models.unet.checkpoint.tensors import read_encoder_tensors, read_tensors
from cnctl.models.unet.checkpoint.unlocked import learnt_along
from cnctl.tensorfiles.base_update import load_base_update
from cnctl.tensorfiles.lazy import ready
from cnctl.tensorfiles.listing import BASE_UPDATE, has_base_update
from cnctl.tensorfiles.write import check_target


def convert(
    source: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    config: str | Path | None = None,
    base: str | Path | None = None,
    from_base: str | Path | None = None,
    to_base: str | Path | None = None,
    shares: Sequence[float] = (),
    rank: int | None = None,
    condition: str = "",
    verify: bool = False,
    overwrite: bool = False,
    progress: Progress = silence,
) -> ConvertResult:
    """Write a ControlNet in another form; the target appears whole or not at all.

    source: any file or folder that `load_controlnet` reads, or a cached hub id; several are
    averaged, each times its share (none given: all alike).
    to: "diffusers", "original" (`control_model.` before each key), "bare" (no prefix), or
    "control-lora" of this rank. None: "original" where the target ends in .safetensors, else
    "diffusers".
    config: a config.json to take the number of heads from, where the source does not tell it.
    base: completes a difference file or a Control-LoRA, and is what "control-lora" subtracts. Of a
    full checkpoint it is where its U-Net began: what that has learnt along is kept in a folder.
    from_base, to_base: move the ControlNet from the base it was trained on to another one.
    condition: written down where the source does not say its own.
    Raises CnctlError when a source is no whole ControlNet, OutputError when the target exists.
    """
    output = Output(
        path=Path(target),
        form=choose_form(to, Path(target)),
        dtype=dtype,
        base=find_base(base) if base else None,
        rank=rank,
        overwrite=overwrite,
    )
    check_target(output.path, overwrite=overwrite)
    sources = [
        open_source(_find(one), config=Path(config) if config else None, base=output.base)
        for one in ([source] if isinstance(source, str | Path) else source)
    ]
    meter = Meter(progress, sources[0].architecture)
    made = _join(sources, shares, condition, meter)
    if from_base or to_base:
        if not (from_base and to_base):
            raise CnctlError(
                "--from-base and --to-base come together",
                hint="name the base that the ControlNet was trained on, and the one it is to fit",
            )
        made = _move(made, find_base(from_base), find_base(to_base), meter)
    return write(_keep_delta(made, sources, output), output, verify=verify, meter=meter)


def find_base(source: str | Path) -> Path:
    """The file or folder of a base; MissingError says how to get it."""
    if Path(source).exists():
        return Path(source)
    from cnctl.models.locate import locate_base  # imports diffusers, which takes seconds

    return locate_base(source).path


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.exists() or str(source).count("/") != 1:
        return path
    from cnctl.commands.shared.weights import (
        cached_folder,  # imports diffusers, which takes seconds
    )

    if cached := cached_folder(str(source)):
        return cached
    raise MissingError(
        f"{source} is no file, no folder, and not in the Hugging Face cache",
        hint="check the path, or fetch it with cnctl models pull",
    )


def _join(sources: Sequence[Source], shares: Sequence[float], condition: str, meter: Meter) -> Made:
    """One ControlNet of one or of several, with what is known of it."""
    first = sources[0]
    shares = shares or [1 / len(sources)] * len(sources)
    if len(shares) != len(sources):
        raise CnctlError(
            f"{len(shares)} shares for {len(sources)} ControlNets", hint="give one for each"
        )
    for other in sources[1:]:
        if other.architecture != first.architecture or other.config != first.config:
            raise CnctlError(
                f"{other.path} is built otherwise than {first.path}",
                hint="only ControlNets of one family and one kind of hint can be averaged",
            )
    origins: list[dict[str, Any]] = [
        {"form": one.form.label, "sha256": measured_digest(one.path, meter)} for one in sources
    ]
    notes = [note for one in sources for note in one.notes]
    tensors, origin = read_tensors(first), origins[0]
    if len(sources) > 1:
        tensors = average([read_tensors(one) for one in sources], shares)
        mixed = zip(origins, shares, strict=True)
        origin = origin | {"averaged": [one | {"share": share} for one, share in mixed]}
    description, said = _describe(first, condition)
    return Made(
        tensors=tensors,
        architecture=first.architecture,
        config=first.config,
        description=description,
        origin=origin,
        notes=(*notes, *said),
        source=first.path,
    )


def _describe(source: Source, condition: str) -> tuple[dict[str, Any], list[str]]:
    """What is to be written down about the weights, and what is to be said about that."""
    known = describe(source)
    description = source.description | {
        name: known[name] for name in ("family", "hint_channels") if known[name]
    }
    notes = []
    told = published.condition_of(source.path)
    if condition or "condition" not in description:
        description["condition"] = condition or told
        if told and not condition:
            notes.append(f"the condition {told} is taken from the file's name")
    if quirk := published.known_quirk(source.path):
        description["hints"] = quirk
        notes.append(quirk)
    return {name: value for name, value in description.items() if value != ""}, notes


def _keep_delta(made: Made, sources: Sequence[Source], output: Output) -> Made:
    """With what the base has learnt along, where the source has that and the target can hold it."""
    first = sources[0]
    if len(sources) > 1 or (first.form.label != FULL and not has_base_update(first.path)):
        return made
    if output.path.suffix == ".safetensors":
        lost = "what its base has learnt along stays behind; a folder as DST would hold it"
        return made.changed(notes=(*made.notes, lost)) if has_base_update(first.path) else made
    if first.form.label != FULL:
        kept = {name: ready(tensor) for name, tensor in load_base_update(first.path).items()}
    elif output.base:
        kept = learnt_along(open_unet(first.path), open_unet(output.base))
    else:
        return made
    told = f"its U-Net has moved in {len(kept)} tensors from the base, which {BASE_UPDATE} holds"
    same = "its U-Net is that of the base"
    return made.changed(base_update=kept, notes=(*made.notes, told if kept else same))


def _move(made: Made, old_base: Path, new_base: Path, meter: Meter) -> Made:
    old, new = open_unet(old_base), open_unet(new_base)
    tensors = transfer(made.tensors, old=read_encoder_tensors(old), new=read_encoder_tensors(new))
    moved = {
        "from_base": measured_digest(old.path, meter),
        "to_base": measured_digest(new.path, meter),
    }
    return made.changed(tensors=tensors, origin={**made.origin, **moved})
