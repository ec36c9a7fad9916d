"""Find detectors' weights, as files that are safe to read.

A file is looked for in the user's own folder (CNCTL_DETECTORS, or `detectors` in the config file),
then in the Hugging Face cache. Nothing is fetched here. Other formats than safetensors are
converted once, by the reader of `cnctl.tensorfiles` that never runs what a file holds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError, MissingError, writing
from cnctl.plugin import Condition, WeightFile
from cnctl.settings import common_settings
from cnctl.settings.environment import is_on
from cnctl.system.atomic import atomic_path
from cnctl.system.caches import cache_folder
from cnctl.tensorfiles.digest import known_sha256
from cnctl.tensorfiles.torchfile import list_torch_file

CONFIG = "config.json"
WHOLE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = "pytorch_model.bin"


class DetectorFiles(Mapping[str, Path]):
    """The files of a condition, each looked for when it is asked for.

    `files[key]` raises MissingError that says what to fetch, and CnctlError where `commercial` is
    asked for and the licence forbids it.
    """

    def __init__(self, condition: Condition, *, commercial: bool | None = None) -> None:
        self._condition = condition
        self._commercial = is_on("CNCTL_COMMERCIAL") if commercial is None else commercial

    def __getitem__(self, key: str) -> Path:
        file = self._condition.files[key]
        if self._commercial and not file.commercial:
            raise CnctlError(
                f"{self._condition.name}: {title(file)} is licensed for non-commercial use only "
                f"({file.licence})",
                hint="choose another condition, or leave out --commercial",
            )
        found = find_file(file)
        if found is None:
            raise _missing(self._condition, file)
        return safe_file(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._condition.files)

    def __len__(self) -> int:
        return len(self._condition.files)


def open_detector(
    condition: Condition, device: str, *, commercial: bool | None = None
) -> Callable[..., Any]:
    """The plugin's own detector, called with its files if it has any; nothing is checked here."""
    if not condition.files:
        return condition.load_detector(device)
    return condition.load_detector(device, DetectorFiles(condition, commercial=commercial))


def find_file(file: WeightFile) -> Path | None:
    """The installed file or folder; None where it is not installed.

    A file of the hub's cache must have the published sha256; a file of the user's own folder is
    not checked.
    """
    for path in _own_places(file):
        if path.is_file() if file.filename else path.is_dir():
            return path
    cached = _in_hub_cache(file)
    if cached:
        check_sha256(file, cached)
    return cached


def weights_in(found: Path) -> Path:
    """The file itself, or the one in a transformers folder that holds its weights."""
    if not found.is_dir():
        return found
    return next(found / name for name in (*WHOLE, PICKLED) if (found / name).is_file())


def safe_file(found: Path) -> Path:
    """A path without a pickle: this one, or the copy that was converted from it."""
    if found.is_dir():
        return _safe_folder(found)
    return found if found.suffix == ".safetensors" else _converted(found)


def converted_copy(found: Path) -> Path | None:
    """Where `safe_file` puts the copy of a file or folder with a pickle; None for another one."""
    if found.is_dir():
        return _copy_of_folder(found) if (found / PICKLED).is_file() else None
    return None if found.suffix == ".safetensors" else _copy_of_file(found)


def check_sha256(file: WeightFile, found: Path) -> None:
    """CnctlError where the file differs from the published one, if its hash is known."""
    path = weights_in(found)
    if file.sha256 and known_sha256(path) != file.sha256:
        raise CnctlError(
            f"{path} is not {title(file)}: its sha256 is {known_sha256(path)[:12]}..., not "
            f"{file.sha256[:12]}...",
            hint="the download may be incomplete: remove it and fetch it again",
        )


def describe(file: WeightFile) -> str:
    """Name, origin, size and licence in words."""
    size = f"{max(1, round(file.size / 1e6))} MB" if file.size else "size unknown"
    licence = file.licence or "licence not stated"
    return f"{title(file)} ({size}; {licence})"


def title(file: WeightFile) -> str:
    return f"{file.filename} of {file.repo}" if file.filename else file.repo


def _missing(condition: Condition, file: WeightFile) -> MissingError:
    return MissingError(
        f"{condition.name} needs {describe(file)}, which is not installed",
        hint=f"cnctl models pull {condition.name}, or name your own folder in CNCTL_DETECTORS",
    )


def _own_places(file: WeightFile) -> Iterator[Path]:
    folder = common_settings().detectors
    if not folder:
        return
    root = Path(folder).expanduser()
    if not file.filename:
        yield from (root / file.repo, root / file.repo.partition("/")[2])
        return
    name = Path(file.filename)
    for path in (root / file.repo / name, root / name, root / name.name):
        yield from (path.with_suffix(".safetensors"), path)


def _in_hub_cache(file: WeightFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    name = file.filename or CONFIG
    cached = try_to_load_from_cache(file.repo, name, revision=file.revision or None)
    if not isinstance(cached, str):
        return None
    return Path(cached) if file.filename else _whole(Path(cached).parent)


def _whole(folder: Path) -> Path | None:
    """The snapshot, unless only its config has been fetched."""
    return folder if any((folder / name).is_file() for name in (*WHOLE, PICKLED)) else None


def _safe_folder(folder: Path) -> Path:
    if not (folder / CONFIG).is_file() or not _whole(folder):
        raise CnctlError(
            f"{folder} is not a complete transformers model",
            hint=f"it must hold {CONFIG} and {WHOLE[0]}",
        )
    if any((folder / name).is_file() for name in WHOLE):
        return folder
    copy = _copy_of_folder(folder)
    if not (copy / WHOLE[0]).is_file():
        weights = _converted(folder / PICKLED)
        with writing(copy), atomic_path(copy, overwrite=True) as new:
            new.mkdir()
            for path in _beside(folder):
                shutil.copyfile(path, new / path.name)
            os.replace(weights, new / WHOLE[0])
    return copy


def _copy_of_folder(folder: Path) -> Path:
    """Its name differs for other weights or another configuration."""
    found = hashlib.sha256(known_sha256(folder / PICKLED).encode())
    for path in _beside(folder):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return cache_folder("detectors") / found.hexdigest()


def _beside(folder: Path) -> list[Path]:
    return sorted((*folder.glob("*.json"), *folder.glob("*.txt")))


def _copy_of_file(source: Path) -> Path:
    return cache_folder("detectors") / f"{known_sha256(source)}.safetensors"


def _converted(source: Path) -> Path:
    """The tensors of a torch file as safetensors, in the cache under the source's sha256."""
    target = _copy_of_file(source)
    if target.is_file():
        return target
    from cnctl.tensorfiles.lazy import open_tensors  # here: they import torch
    from cnctl.tensorfiles.stream import write_tensors

    specs = list_torch_file(source).tensors
    if not specs:
        raise CnctlError(f"{source} holds no tensors", hint="fetch it again")
    tensors = open_tensors(source, "torch", specs, specs)
    with writing(target), atomic_path(target, overwrite=True) as new:
        write_tensors(new, tensors, metadata=lambda _: {})
    return target
