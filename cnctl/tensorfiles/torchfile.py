"""What a `.pth` or `.ckpt` of torch holds, read without torch: each tensor and its place.

Both containers are read strictly: the zip of torch >= 1.6 and the older row of pickles followed by
data. A file is refused when it holds anything else, or claims more data than it has.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import MAX_TENSORS, TensorSpec
from cnctl.tensorfiles.pickles import MAX_BYTES, Pickle, Tensor, UnsafePickleError, read_pickle

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "params", "params_ema", "ema",
    "ema_state_dict", "string_to_param",
)  # fmt: skip
"""Keys under which trainers and webui (textual inversion) put tensors, in order of preference."""
MAX_WRAPPERS = 3
"""Dictionaries in one another: a file may hold one that holds itself."""
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PROTOCOL = 1001
LEGACY_PREFACE = 4096
"""Bytes that each of the three pickles before the value may have; torch.save writes 120."""
MAX_MEMBERS = 100_000
MAX_DIRECTORY = 16 << 20
ByteOrder = Literal["little", "big"]
MEMBER = re.compile(
    r"(data\.pkl|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id|data/\d+)"
)


@dataclass(frozen=True)
class Place:
    """The place of a tensor in its file."""

    begin: int
    """The byte at which its first item begins."""
    stride: tuple[int, ...]
    """Items, not bytes, from one index to the next of each dimension; never negative."""


@dataclass(frozen=True)
class TorchListing:
    tensors: dict[str, TensorSpec]
    places: dict[str, Place]
    """Places by the same names; each tensor is within the file."""
    byteorder: ByteOrder
    wrapper: str
    """The key under which the tensors lie, "a.b" for b within a; "" where there is none."""
    others: tuple[str, ...]
    """Keys beside them that are left out (epoch, optimizer states, a second set of weights ...)."""


def list_torch_file(path: Path) -> TorchListing:
    """Read the listing; CnctlError when the file is damaged or holds more than tensors."""
    try:
        with path.open("rb") as file:
            return _listing(_read_zip(file) if _is_zip(file) else _read_legacy(file))
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


def check_crc(path: Path) -> None:
    """CnctlError where data differ from the checksums of a zip; the old container has none.

    Call on files that `list_torch_file` has passed.
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
            f"{path} is damaged: {damaged[:120]!r} does not match its checksum",
            hint="fetch or copy it again",
        )


def _is_zip(file: BinaryIO) -> bool:
    magic = file.read(4)
    file.seek(0)
    return magic == ZIP_MAGIC


@dataclass(frozen=True)
class _Container:
    pickle: Pickle
    spans: dict[str, tuple[int, int]]
    """Key of a storage -> the byte at which its data begin, and how many they are."""
    byteorder: ByteOrder = "little"


def _read_zip(file: BinaryIO) -> _Container:
    size = file.seek(0, os.SEEK_END)
    _check_directory(file, size)
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    _check_members(members, size)
    folder = members[0].filename.split("/")[0]
    spans = {}
    for member in members:
        name = member.filename.removeprefix(f"{folder}/")
        if not MEMBER.fullmatch(name) or not member.filename.startswith(f"{folder}/"):
            raise UnsafePickleError(
                f"it holds {member.filename[:120]!r}, which torch.save never writes"
            )
        if name.startswith("data/"):
            begin = _data_begin(file, member)
            if begin + member.file_size > size:
                raise ValueError("it ends before its data")
            spans[name.removeprefix("data/")] = begin, member.file_size
    pickle = archive.getinfo(f"{folder}/data.pkl")
    if pickle.file_size > MAX_BYTES:
        raise UnsafePickleError("its pickle is too long")
    return _Container(_one_pickle(archive.read(pickle)), spans, _byteorder(archive, folder))


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse a directory that is too large to read, or not where the file ends."""
    file.seek(max(0, size - 98))
    tail = file.read(98)
    if tail[-22:-18] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        raise ValueError("its directory is not at its end")
    nbytes = int.from_bytes(tail[-10:-6], "little")
    if tail[-42:-38] == b"PK\x06\x07" and tail[:4] == b"PK\x06\x06":  # zip64
        nbytes = int.from_bytes(tail[40:48], "little")
    if nbytes > MAX_DIRECTORY:
        raise UnsafePickleError("it lists too many files")


def _data_begin(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Returns the byte behind the member's own header, whose length is not in the directory."""
    file.seek(member.header_offset)
    header = file.read(30)
    if header[:4] != ZIP_MAGIC:
        raise ValueError("its directory points outside the file")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return member.header_offset + len(header) + lengths


def _byteorder(archive: zipfile.ZipFile, folder: str) -> ByteOrder:
    name = f"{folder}/byteorder"
    if name not in archive.namelist():  # of torch < 2.1
        return "little"
    if archive.getinfo(name).file_size <= len("little"):
        match archive.read(name):
            case b"little":
                return "little"
            case b"big":
                return "big"
    raise ValueError("its byte order is unknown")


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = {member.filename for member in members}
    if len(names) < len(members) or len(members) > MAX_MEMBERS:
        raise UnsafePickleError("it lists files twice, or too many")
    if any(
        member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members
    ):
        raise UnsafePickleError("it is compressed, which torch.save never does")
    if sum(member.file_size for member in members) > size or any(
        member.file_size != member.compress_size or not 0 <= member.header_offset < size
        for member in members
    ):
        raise UnsafePickleError("it claims to hold more than the file does")


def _one_pickle(data: bytes) -> Pickle:
    stream = io.BytesIO(data)
    pickle = read_pickle(stream)
    if stream.read(1):
        raise UnsafePickleError("there is data after its pickle")
    return pickle


def _read_legacy(file: BinaryIO) -> _Container:
    """Five pickles (magic, protocol, machine, value, keys of the storages), then the data."""
    read_pickle(file, max_bytes=LEGACY_PREFACE)
    if read_pickle(file, max_bytes=LEGACY_PREFACE).value != LEGACY_PROTOCOL:
        raise ValueError("its protocol is unknown")
    read_pickle(file, max_bytes=LEGACY_PREFACE)
    pickle, keys = read_pickle(file), read_pickle(file).value
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise UnsafePickleError("its list of data is malformed")
    size = os.fstat(file.fileno()).st_size
    spans = {}
    for key in keys:
        storage = pickle.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.numel:
            raise ValueError("its data are not as long as it says")
        spans[key] = file.tell(), storage.nbytes
        if file.seek(storage.nbytes, os.SEEK_CUR) > size:
            raise ValueError("it ends before its data")
    return _Container(pickle, spans)


def _listing(container: _Container) -> TorchListing:
    tensors, wrapper, others = _tensors(container.pickle.value)
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"it lists {len(tensors)} tensors; {MAX_TENSORS} is the limit")
    specs, places = {}, {}
    for name, tensor in tensors.items():
        begin, nbytes = container.spans[tensor.storage.key]
        if tensor.storage.nbytes > nbytes:
            raise UnsafePickleError("it claims to hold more than the file does")
        skipped = TensorSpec(tensor.dtype, (tensor.offset,)).nbytes
        specs[name] = TensorSpec(tensor.dtype, tensor.shape)
        places[name] = Place(begin + skipped, tensor.stride)
    stored = sum(nbytes for _, nbytes in container.spans.values())
    if sum(spec.nbytes for spec in specs.values()) > 1.05 * stored + 4096:
        raise UnsafePickleError(
            "its tensors overlap: they would expand to more than the file holds"
        )
    return TorchListing(specs, places, container.byteorder, wrapper, others)


def _tensors(tree: Any) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
    """The tensors of the network, the key that they lie under, and the keys that are left out."""
    if type(tree) is not dict:
        raise ValueError("it does not hold a dictionary of tensors")
    wrappers: list[str] = []
    others: list[str] = []
    while len(wrappers) < MAX_WRAPPERS and (key := _wrapper(tree)):
        wrappers.append(key)
        others += [name for name in tree if type(name) is str and name != key]
        tree = tree[key]
    tensors = {name: value for name, value in tree.items() if type(value) is Tensor}
    if not tensors:
        tensors = dict(_grouped(tree))
    kept = {name.split(".")[0] for name in tensors} | tensors.keys()
    others += [name for name in tree if type(name) is str and name not in kept]
    return tensors, ".".join(wrappers), tuple(others)


def _wrapper(tree: dict[Any, Any]) -> str:
    """The key of the dictionary that holds the network; "" where this one does."""
    groups = [name for name, value in tree.items() if type(name) is str and _holds_tensors(value)]
    known = next((name for name in WRAPPERS if name in groups), "")
    if known or len(groups) != 1 or any(type(value) is Tensor for value in tree.values()):
        return known
    return groups[0]


def _holds_tensors(value: Any, *, deeper: int = MAX_WRAPPERS) -> bool:
    if type(value) is not dict:
        return False
    if any(type(one) is Tensor for one in value.values()):
        return True
    return deeper > 0 and any(_holds_tensors(one, deeper=deeper - 1) for one in value.values())


def _grouped(tree: dict[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a network that is kept in several dictionaries, as an IP-Adapter's are."""
    for group, value in tree.items():
        if type(group) is str and type(value) is dict:
            for name, tensor in value.items():
                if type(name) is str and type(tensor) is Tensor:
                    yield f"{group}.{name}", tensor
