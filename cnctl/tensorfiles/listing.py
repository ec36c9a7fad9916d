"""What a file of weights holds, of either container, before any tensor is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cnctl.errors import CnctlError, reading
from cnctl.tensorfiles.header import TensorSpec, read_header
from cnctl.tensorfiles.torchfile import LEGACY_MAGIC, ZIP_MAGIC, list_torch_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
WEIGHTS_NAMES = (
    WEIGHTS,
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
"""Names that diffusers gives to weights in a folder, in the order of preference."""
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


def list_tensors(path: Path) -> Listing:
    """Lists the tensors of a file. CnctlError says what a file of another kind is."""
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
