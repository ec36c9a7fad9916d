"""What a `.pth` or `.ckpt` of torch holds, learnt without torch: names, dtypes, shapes of tensors.

Both containers are read strictly: the zip of torch >= 1.6 and the older row of pickles followed by
data. What torch itself would have to interpret is refused here, before torch sees the file.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import MAX_TENSORS, TensorSpec
from cnctl.tensorfiles.pickles import MAX_BYTES, Pickle, Tensor, UnsafePickleError, read_pickle

WRAPPERS = ("state_dict", "model", "string_to_param")
"""Keys under which Lightning, detectors' authors, or webui (textual inversion) put all tensors."""
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PROTOCOL = 1001
MAX_MEMBERS = 100_000
MEMBER = re.compile(
    r"(data\.pkl|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id|data/\d+)"
)


@dataclass(frozen=True)
class TorchListing:
    tensors: dict[str, TensorSpec]
    wrapper: str
    """The key under which the tensors lie, one of WRAPPERS; "" where there is none."""
    others: tuple[str, ...]
    """Keys beside the tensors that hold none (epoch, optimizer states, ...)."""


def list_torch_file(path: Path) -> TorchListing:
    """Read the listing; CnctlError when the file could do more than hold tensors."""
    try:
        with path.open("rb") as file:
            pickle, sizes = _read_zip(file) if _is_zip(file) else _read_legacy(file)
            return _listing(pickle.value, sizes)
    except UnsafePickleError as error:
        raise CnctlError(
            f"{path} was refused: {error}",
            hint="a file of weights holds tensors and nothing else; ask for a safetensors file",
        ) from error
    except (
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        IndexError,
        EOFError,
        RecursionError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
        TypeError,
    ) as error:
        raise CnctlError(
            f"{path} is not a whole torch file: {' '.join(str(error).split())[:200]}",
            hint="fetch or copy it again; a download may have stopped early",
        ) from error


def check_data(path: Path) -> None:
    """CnctlError where data differ from the checksums that a zip holds; torch itself never looks.

    The old container holds none. Call on files that `list_torch_file` has passed.
    """
    with path.open("rb") as file:
        if not _is_zip(file):
            return
        try:
            damaged = zipfile.ZipFile(file).testzip()
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            damaged = str(error)
    if damaged:
        raise CnctlError(
            f"{path} is damaged: {damaged[:120]!r} is not what was written",
            hint="fetch or copy it again",
        )


def _is_zip(file: BinaryIO) -> bool:
    magic = file.read(4)
    file.seek(0)
    return magic == ZIP_MAGIC


def _read_zip(file: BinaryIO) -> tuple[Pickle, dict[str, int]]:
    """The value of data.pkl, and the bytes that each storage has."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 22))
    if file.read(4) != b"PK\x05\x06":
        raise ValueError("its directory is not at its end")
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    _check_members(members, size)
    folder = members[0].filename.split("/")[0]
    sizes = {}
    for member in members:
        name = member.filename.removeprefix(f"{folder}/")
        if not MEMBER.fullmatch(name) or not member.filename.startswith(f"{folder}/"):
            raise UnsafePickleError(
                f"it holds {member.filename[:120]!r}, which torch.save never writes"
            )
        if name.startswith("data/"):
            sizes[name.removeprefix("data/")] = member.file_size
    pickle = archive.getinfo(f"{folder}/data.pkl")
    if pickle.file_size > MAX_BYTES:
        raise UnsafePickleError("its pickle is too long")
    return _one_pickle(archive.read(pickle)), sizes


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = {member.filename for member in members}
    if len(names) < len(members) or len(members) > MAX_MEMBERS:
        raise UnsafePickleError("it lists files twice, or too many")
    if any(
        member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members
    ):
        raise UnsafePickleError("it is compressed, which torch.save never does")
    if sum(member.file_size for member in members) > size or any(
        member.file_size != member.compress_size for member in members
    ):
        raise UnsafePickleError("it claims to hold more than the file does")


def _one_pickle(data: bytes) -> Pickle:
    stream = io.BytesIO(data)
    pickle = read_pickle(stream)
    if stream.read(1):
        raise UnsafePickleError("more follows its pickle")
    return pickle


def _read_legacy(file: BinaryIO) -> tuple[Pickle, dict[str, int]]:
    """Five pickles (magic, protocol, machine, value, keys of the storages), then the data."""
    read_pickle(file)
    if read_pickle(file).value != LEGACY_PROTOCOL:
        raise ValueError("its protocol is unknown")
    read_pickle(file)
    pickle, keys = read_pickle(file), read_pickle(file).value
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise UnsafePickleError("its list of data is malformed")
    size = os.fstat(file.fileno()).st_size
    sizes = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        nbytes = TensorSpec(pickle.storages[key].dtype, (count,)).nbytes
        sizes[key] = nbytes
        if file.tell() + nbytes > size:
            raise ValueError("it ends before its data do")
        file.seek(nbytes, os.SEEK_CUR)
    return pickle, sizes


def _listing(tree: Any, sizes: Mapping[str, int]) -> TorchListing:
    tensors, wrapper, others = _tensors(tree)
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"it lists {len(tensors)} tensors; {MAX_TENSORS} is the most read here")
    specs = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if TensorSpec(storage.dtype, (storage.numel,)).nbytes > sizes[storage.key]:
            raise UnsafePickleError("it claims to hold more than the file does")
        specs[name] = TensorSpec(storage.dtype, tensor.shape)
    if sum(spec.nbytes for spec in specs.values()) > 1.05 * sum(sizes.values()) + 4096:
        raise UnsafePickleError(
            "its tensors overlap: they would unfold to more than the file holds"
        )
    return TorchListing(specs, wrapper, others)


def _tensors(tree: Any) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
    if type(tree) is not dict:
        raise ValueError("it holds no dictionary of tensors")
    wrapper = next((key for key in WRAPPERS if type(tree.get(key)) is dict), "")
    inner = tree[wrapper] if wrapper else tree
    tensors = {name: value for name, value in inner.items() if type(value) is Tensor}
    others = [name for name in (*tree, *inner) if type(name) is str and name not in tensors]
    return tensors, wrapper, tuple(name for name in others if name != wrapper)
