"""A diffusers folder, as diffusers' modules; only trusted classes are loaded."""

from __future__ import annotations

import importlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from safetensors import SafetensorError
from torch import nn

from cnctl.errors import CnctlError, MissingError
from cnctl.models.location import part_folder, read_json
from cnctl.models.reading import report_reading, size_of
from cnctl.tensorfiles.parts import read_index

COMPONENTS: dict[str, type] = {
    "vae": diffusers.ModelMixin,
    "text_encoder": transformers.PreTrainedModel,
    "tokenizer": transformers.PreTrainedTokenizerBase,
    "scheduler": diffusers.SchedulerMixin,
}
"""What every base has beside its denoiser."""


def load_parts(
    folder: Path,
    *,
    denoiser: tuple[str, type],
    most_text_encoders: int,
    dtypes: Mapping[str, torch.dtype],
    weights: bool = True,
    outlined: Container[str] = (),
) -> dict[str, Any]:
    """The components of the base in this folder, on the CPU, by their names in model_index.json.

    denoiser: name and class. Of the text encoders after the first, with their tokenizers, those
    come that the index names. dtypes: by name of the component. Without weights the networks are on
    the meta device, from their configs alone. outlined: networks that come so in any case.
    """
    index = read_json(folder / "model_index.json")
    kinds = COMPONENTS | dict([denoiser])
    for number in range(2, most_text_encoders + 1):
        # A base without one writes [null, null].
        if any(index.get(f"text_encoder_{number}") or ()):
            pair = ("text_encoder", "tokenizer")
            kinds |= {f"{part}_{number}": COMPONENTS[part] for part in pair}
    classes = {part: _component_class(folder, index, part, kind) for part, kind in kinds.items()}
    places = {part: part_folder(folder, index.get("cnctl", {}), part) for part in kinds}
    outlines = {part for part in dtypes if not weights or part in outlined}
    read = (classes.keys() & dtypes.keys()) - outlines
    for part in read:
        _check_files(places[part])
    # Their bars would stand among our own lines.
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    sizes = {part: size_of(places[part]) for part in read}
    parts, done = {}, 0
    for part, kind in classes.items():
        if part in outlines:
            parts[part] = _outline(places[part], kind, dtype=dtypes[part])
            continue
        if part in sizes:
            report_reading(part, done, sum(sizes.values()))
            done += sizes[part]
        parts[part] = _load_part(places[part], kind, dtype=dtypes.get(part))
    return parts


def _component_class(folder: Path, index: Mapping[str, Any], part: str, of: type) -> type:
    """The class that model_index.json names, from a library that is trusted to run."""
    entry = index.get(part)
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(e, str) for e in entry)):
        raise CnctlError(f"{folder}/model_index.json names no {part}", hint="give a whole base")
    library, name = entry
    if library not in ("diffusers", "transformers") and not library.startswith("cnctl."):
        raise CnctlError(
            f"{folder}/model_index.json takes {part} from {library!r}, which is not trusted",
            hint="only diffusers, transformers and cnctl's own classes are loaded",
        )
    try:
        found = getattr(importlib.import_module(library), name)
    except (ImportError, AttributeError) as error:
        raise MissingError(
            f"{library} has no {name}", hint="upgrade cnctl and diffusers"
        ) from error
    if not (isinstance(found, type) and issubclass(found, of)):
        raise CnctlError(f"{library}.{name} cannot be a {part}", hint="give a diffusers base")
    return found


def _outline(folder: Path, kind: Any, *, dtype: torch.dtype) -> Any:
    config = read_json(folder / "config.json")
    with init_empty_weights(include_buffers=False):
        if issubclass(kind, diffusers.ModelMixin):
            model = kind.from_config(config)
        else:
            model = kind(kind.config_class.from_dict(config))
    # diffusers' own `to` warns of what it does not do.
    return nn.Module.to(model, dtype)


def _load_part(folder: Path, kind: Any, *, dtype: torch.dtype | None) -> Any:
    """One component from its folder; weights, where it has any, from safetensors only."""
    options: dict[str, Any] = {"local_files_only": True}
    if dtype is not None:
        name = "torch_dtype" if issubclass(kind, diffusers.ModelMixin) else "dtype"
        options |= {name: dtype, "use_safetensors": True, "variant": _variant(folder)}
        options["output_loading_info"] = True
    try:
        loaded = kind.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is incomplete"
        raise MissingError(
            f"{folder} cannot be read: {reason}", hint="fetch the whole base again"
        ) from error
    return loaded if dtype is None else _complete(folder, *loaded)


def _check_files(folder: Path) -> None:
    """MissingError where a part of the weights is missing, or they are in torch files alone.

    Those diffusers would unpickle.
    """
    infix = f".{variant}" if (variant := _variant(folder)) else ""
    for index in folder.glob(f"*.safetensors.index{infix}.json"):
        read_index(index)
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled and not any(folder.glob("*.safetensors")):
        raise MissingError(
            f"{folder} holds {', '.join(pickled[:5])}, but no safetensors file",
            hint="fetch the base's safetensors files too, or give it as one file",
        )


def _complete(folder: Path, model: Any, info: Mapping[str, Any]) -> Any:
    """The model, unless its file left some of it to chance."""
    if missing := sorted(info["missing_keys"]):
        raise CnctlError(
            f"{folder} lacks {len(missing)} of its weights, {missing[0]} for one",
            hint="fetch the whole base again",
        )
    return model


def _variant(folder: Path) -> str | None:
    """\"fp16\" where the folder holds its weights in that variant alone."""
    weights = [path.name for path in folder.glob("*.safetensors")]
    plain = [name for name in weights if ".fp16" not in name]
    return "fp16" if weights and not plain else None
