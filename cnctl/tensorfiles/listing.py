"""What weights hold, of either container, in one file or in parts, before any tensor is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cnctl.errors import CnctlError, reading
from cnctl.tensorfiles.header import TensorSpec, read_header
from cnctl.tensorfiles.parts import is_index, read_index, weight_files
from cnctl.tensorfiles.torchfile import LEGACY_MAGIC, ZIP_MAGIC, list_torch_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
DIFFUSERS_NAMES = (
    WEIGHTS,
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
WEIGHTS_NAMES = (
    *(*DIFFUSERS_NAMES, "model.safetensors", "pytorch_model.bin"),
    *(f"{WEIGHTS}.index.json", f"{WEIGHTS}.index.fp16.json", "model.safetensors.index.json"),
    *("diffusion_pytorch_model.bin.index.json", "pytorch_model.bin.index.json"),
)
"""Names of weights in a folder, in the order of preference: diffusers', then accelerate's; those in
several files last."""
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".gguf")
WRAPPER = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
"""What training in parallel and compiling put into the names of tensors."""
CONFIG = "config.json"
DESCRIPTION = "cnctl.json"
"""A description of the weights beside it, written by cnctl."""


@dataclass(frozen=True)
class Listing:
    container: str
    """"safetensors", "torch", or "torch, under state_dict"."""
    tensors: dict[str, TensorSpec]
    metadata: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    """Keys that hold no tensors."""


def find_weights(folder: Path) -> Path | None:
    """The file of weights in a folder, or the index of its parts; None without one that is read."""
    return next((folder / name for name in WEIGHTS_NAMES if (folder / name).is_file()), None)


def no_weights(folder: Path, what: str) -> CnctlError:
    """The error for a folder without weights that are read: it names those that are there."""
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS_SUFFIXES)
    one = len(files) == 1
    hint = f"give {files[0]} itself" if one else f"give the file or folder of {what}"
    names = ", ".join(path.name for path in files[:5])
    there = f", but {names}" if names else ""
    return CnctlError(f"{folder} holds no {WEIGHTS}{there}", hint=hint)


def without_wrappers(names: Iterable[str]) -> dict[str, str]:
    """Name without what training in parallel and compiling added to it -> name in the file."""
    names = list(names)
    bare = {WRAPPER.sub("", name): name for name in names}
    return bare if len(bare) == len(names) else {name: name for name in names}


def list_tensors(path: Path) -> Listing:
    """Lists the tensors of a file, or of the parts of an index.

    CnctlError says what a file of another kind is, or which part is missing or another one's.
    """
    return _list_parts(path) if is_index(path) else _list_file(path)


def _list_parts(index: Path) -> Listing:
    places = read_index(index)
    parts = {file: _list_file(file) for file in weight_files(index)}
    tensors = {name: spec for part in parts.values() for name, spec in part.tensors.items()}
    wrong = [n for n in {*places, *tensors} if n not in places or n not in parts[places[n]].tensors]
    if wrong:
        raise CnctlError(
            f"{index} and its parts disagree about {min(wrong)!r}", hint="fetch the folder again"
        )
    first = next(iter(parts.values()))
    others = tuple(key for part in parts.values() for key in part.others)
    return Listing(first.container, tensors, first.metadata, others)


def _list_file(path: Path) -> Listing:
    with reading(path, hint="check the path"), path.open("rb") as file:
        start = file.read(512)
    if start.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
        found = list_torch_file(path)
        container = f"torch, under {found.wrapper}" if found.wrapper else "torch"
        return Listing(container, found.tensors, {}, found.others)
    if start[8:9] == b"{":
        header = read_header(path)
        return Listing("safetensors", header.tensors, header.metadata)
    raise CnctlError(
        f"{path} is {_what_else(start)}", hint="give a .safetensors, .pth or .ckpt file"
    )


def _what_else(start: bytes) -> str:
    text = start.lstrip().lower()
    if not start:
        return "empty"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (run git lfs pull)"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights (the download needs a login or another address)"
    if start.startswith(b"GGUF"):
        return "a GGUF file, whose quantised weights are not read"
    if start[257:262] == b"ustar":
        return "a tar file of a very old torch, which cannot be read safely"
    if start.startswith(b"\x80"):
        return "a bare pickle, which could run any code; it was not opened"
    return "not a file of weights that cnctl knows"
