"""Files that would eat the machine, and files that are something else: one line, at once."""

import io
import json
import pickle
import resource
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from cnctl.errors import CnctlError

TENSOR = torch.zeros(2)


def write_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def write_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


CONTAINERS = {"zip": write_zip, "legacy": write_legacy}


def repack(path: Path, **changes: bytes | None) -> None:
    """Replace, add or (None) remove members of a torch zip; `data_pkl` stands for data.pkl."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(members)).split("/")[0]
    for name, content in changes.items():
        members[f"{folder}/{name.replace('_pkl', '.pkl').replace('__', '/')}"] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)


def pickled(shape: str, *, numel: int = 2, stride: tuple = (1,), offset: int = 0) -> bytes:
    """data.pkl of one tensor whose numbers are not checked by the writer."""

    class Rebuilt:
        def __reduce__(self) -> tuple:
            return torch._utils._rebuild_tensor_v2, (
                Stored(), offset, eval(shape), stride, False, OrderedDict()
            )  # fmt: skip

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple | None:
            if isinstance(value, Stored):
                return ("storage", torch.FloatStorage, "0", "cpu", numel)
            return None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"weight": Rebuilt()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"data_pkl": pickled("(10**12,)", stride=(0,))}, "overlap", id="stride 0"),
        pytest.param({"data_pkl": pickled("(10**9,)")}, "beyond its own data", id="beyond"),
        pytest.param({"data_pkl": pickled("(2,)", offset=1)}, "beyond its own data", id="offset"),
        pytest.param({"data_pkl": pickled("(-2,)")}, "impossible shape", id="negative"),
        pytest.param({"data_pkl": pickled("(2,)", stride=(1, 1))}, "impossible", id="strides"),
        pytest.param({"data_pkl": pickled("(0, 2**63)", stride=(1, 1))}, "impossible", id="2^63"),
        pytest.param(
            {"data_pkl": pickled("(0, 2**47, 2**47)", stride=(1, 1, 1))}, "impossible", id="empty"
        ),
        pytest.param(
            {"data_pkl": pickled("(1,) * 65", stride=(1,) * 65)}, "impossible", id="65 dimensions"
        ),
        pytest.param({"data_pkl": pickled("(1, 2)", stride=(2**60, 1))}, "impossible", id="stride"),
        pytest.param(
            {"data_pkl": pickled("(10**9,)", numel=10**9)}, "more than the file", id="storage"
        ),
        pytest.param({"data__0": None}, "not a whole torch file", id="no data"),
        pytest.param({"data_pkl": None}, "not a whole torch file", id="no pickle"),
        pytest.param({"data_pkl": b""}, "not a whole torch file", id="empty pickle"),
        pytest.param({"data_pkl": pickled("(2,)") + b"x"}, "data after its pickle", id="more"),
        pytest.param({"constants_pkl": b"N."}, "constants.pkl", id="TorchScript"),
        pytest.param({"code": b"x"}, "which torch.save never writes", id="unknown member"),
        pytest.param({"..__..__x": b"x"}, "which torch.save never writes", id="path"),
        pytest.param(
            {"data_pkl": b"\x80\x02}q\x00X\x01\0\0\0acbuiltins\nbytearray\nJ\0\0\0\x7f\x85Rs."},
            "it asks for builtins.bytearray",
            id="two GiB of bytes",
        ),
        pytest.param(
            {"data_pkl": b"\x80\x02ctorch\nFloatTensor\nJ\0\0\0\x7f\x85R."},
            "it asks for torch.FloatTensor",
            id="tensor of eight GiB",
        ),
    ],
)
def test_a_zip_that_would_eat_the_machine_is_refused(tmp_path, read_file, changes, why) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": TENSOR}, path)
    repack(path, **changes)
    with pytest.raises(CnctlError, match=why) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


def safetensors(header: object, data: bytes = b"") -> bytes:
    """A file of this header: JSON values, or text as it stands."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(*shape: int, dtype: str = "F32", end: int = 0) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def doubling(times: int) -> bytes:
    """A tuple of itself twice, and so on: it would be 2 ** times long when it is walked."""
    return b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * times + b"."


def legacy(content: bytes) -> bytes:
    """The old container with this pickle as its value."""
    buffer = io.BytesIO()
    torch.save({"weight": TENSOR}, buffer, _use_new_zipfile_serialization=False)
    before = buffer.getvalue()
    value = before.index(b"\x80\x02}q\x00X\x06\0\0\0weight")
    keys = b"\x80\x02]."
    return before[:value] + content + keys


@pytest.mark.parametrize(
    ("make", "why"),
    {
        "header of 8 exabytes": (lambda: b"\xff" * 7 + b"\x7f{", "longer than the file"),
        "header of 17 MB": (lambda: safetensors(b"{" + b" " * (17 << 20)), "longer than the file"),
        "nested a million deep": (lambda: safetensors(b'{"a":' + b"[" * 10**6), "not JSON"),
        "20,000 tensors": (
            lambda: safetensors({f"t{n}": entry(0) for n in range(20_000)}),
            "lists 20000 tensors",
        ),
        "one tensor of 2 ** 80": (
            lambda: safetensors({"t": entry(2**40, 2**40, end=4)}, bytes(4)),
            "does not fit",
        ),
        "a number of a million digits": (
            lambda: safetensors(b'{"t":' + b"9" * 10**6 + b"}"),
            "not JSON",
        ),
        "tensors upon each other": (
            lambda: safetensors({"a": entry(1, end=4), "b": entry(1, end=4)}, bytes(4)),
            "overlap",
        ),
        "tuple of 2 ** 200": (lambda: legacy(doubling(200)), "not hold a dictionary"),
        "tuples 300,000 deep": (
            lambda: legacy(b"\x80\x02)" + b"\x85" * 300_000 + b"."),
            "not hold a dictionary",
        ),
        "text of 4 GB": (lambda: legacy(b"\x80\x02X\xff\xff\xff\xffabc"), "too long|refused"),
        "number of 2 GB": (lambda: legacy(b"\x80\x02\x8b\xff\xff\xff\x7fabc"), "too long|refused"),
        "name of a gigabyte": (lambda: legacy(b"\x80\x02c" + b"a" * 10**6), "torch file|asks"),
        "memo of a billion": (lambda: legacy(b"\x80\x02Nj\xff\xff\xff\x7f."), "is broken"),
        "text of 66 MB": (
            lambda: legacy(b"\x80\x02X\x00\x00\x20\x04" + b"a" * (66 << 20) + b"."),
            "too long",
        ),
        "preface of a megabyte": (
            lambda: legacy(b"N.")[:15] + b"\x80\x02X\x40\x42\x0f\0" + b"a" * 10**6 + b".",
            "too long",
        ),
    }.values(),
    ids=range(15),
)
def test_a_file_that_would_eat_the_machine_is_refused(tmp_path, read_file, make, why) -> None:
    path = tmp_path / "weights"
    path.write_bytes(make())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(CnctlError, match=why) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512_000  # kB


def test_a_zip_bomb_is_refused_unread(tmp_path, read_file) -> None:
    """Half a megabyte that would unfold to 128 MiB; torch itself reads such files."""
    path = tmp_path / "bomb.pth"
    torch.save({"weight": TENSOR}, path)
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].split("/")[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled("(2**25,)", numel=2**25))
        with archive.open(f"{folder}/data/0", "w", force_zip64=True) as member:
            zeros = bytes(1 << 24)
            for _ in range(8):
                member.write(zeros)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CnctlError, match="it is compressed"):
        read_file(path)


def test_a_directory_that_would_fill_memory_is_refused_unread(tmp_path, read_file) -> None:
    """Zipfile makes an object of each entry before it reports their number."""
    path = tmp_path / "weights.pth"
    torch.save({"weight": TENSOR}, path)
    content = path.read_bytes()
    end = b"PK\x05\x06" + bytes(8) + (17 << 20).to_bytes(4, "little") + bytes(6)
    path.write_bytes(content[:-22] + bytes(17 << 20) + end)
    with pytest.raises(CnctlError, match="lists too many files"):
        read_file(path)


@pytest.mark.parametrize("order", [b"middle", b"little" * 10**6])
def test_a_byte_order_that_is_unknown_is_refused(tmp_path, read_file, order) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": TENSOR}, path)
    repack(path, byteorder=order)
    with pytest.raises(CnctlError, match="byte order is unknown"):
        read_file(path)


def test_members_listed_twice_are_refused(tmp_path, read_file) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": TENSOR}, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"N.")
    with pytest.raises(CnctlError, match="lists files twice"):
        read_file(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>Access denied</html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "not a file of weights"),
        (b"PK\x03\x04", "not a whole torch file"),
        (b"PK\x03\x04" + b"\0" * 100, "not a whole torch file"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "not a whole torch file"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "a tar file of a very old torch"),
        (b"GIF89a", "not a file of weights"),
    ],
    ids=range(10),
)
def test_other_files_are_named(tmp_path, read_file, content, what) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CnctlError, match=what) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_truncated_files_are_one_line(tmp_path, read_file, container, share) -> None:
    path = tmp_path / "weights.pth"
    CONTAINERS[container]({f"layer.{n}": torch.ones(64, 8) for n in range(40)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        CnctlError, match=r"not a whole torch file|not a file of weights|bare pickle"
    ):
        read_file(path)
