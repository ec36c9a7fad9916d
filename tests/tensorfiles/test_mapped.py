"""Tensors read where they lie, against torch's own reading of the same files."""

import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from cnctl.errors import CnctlError
from cnctl.tensorfiles import mapped
from cnctl.tensorfiles.lazy import open_tensors
from cnctl.tensorfiles.listing import list_tensors

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64,
    torch.uint32, torch.uint16, torch.uint8, torch.bool,
]  # fmt: skip
CONTAINERS = [True, False]
NAMES = ["zip", "legacy"]


def numbers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Random bytes that are numbers of this type; NaN may be among them."""
    count = torch.Size(shape).numel() * dtype.itemsize
    drawn = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8)
    return drawn.view(dtype).reshape(shape)


def views() -> dict[str, torch.Tensor]:
    big, cube = numbers(torch.float32, 64, 6), numbers(torch.float16, 3, 4, 5)
    return {
        "whole": big,
        "again": big,
        "rows": big[1:3],
        "steps": big[1:3, ::2],
        "transposed": big[:8].T,
        "last": big[-1, -1],
        "permuted": cube.permute(2, 0, 1),
        "channels last": numbers(torch.float32, 2, 3, 4, 5).to(memory_format=torch.channels_last),
        "repeated": numbers(torch.float32, 3, 1).expand(3, 4),
        "overlapping": big.reshape(-1).unfold(0, 4, 1)[:9],
        "of one": numbers(torch.float32, 1, 1).as_strided((1, 1), (7, 9)),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "empty at the end": big[64:],
        "parameter": torch.nn.Parameter(numbers(torch.float32, 3)),
    }


TABLE = {
    **{str(dtype): lambda dtype=dtype: {"a": numbers(dtype, 5, 3)} for dtype in DTYPES},
    "all dtypes": lambda: {str(dtype): numbers(dtype, 3) for dtype in DTYPES},
    "strided dtypes": lambda: {str(dtype): numbers(dtype, 5, 3).T for dtype in DTYPES},
    "views": views,
    "ordered": lambda: OrderedDict(views()),
    "module": lambda: torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)
    ).state_dict(),
    "beside others": lambda: {"epoch": 3, "a": numbers(torch.float32, 2), "n": [{"b": (1, None)}]},
}


@pytest.mark.parametrize("zipped", CONTAINERS, ids=NAMES)
@pytest.mark.parametrize("case", TABLE)
def test_equals_torch(tmp_path, read_file, case, zipped) -> None:
    torch.manual_seed(0)
    path, value = tmp_path / "x.pth", TABLE[case]()
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    found = read_file(path)
    assert_equal(found, value)
    # torch cannot read what it writes of its newest dtypes to the old container.
    if zipped or not {tensor.dtype for tensor in found.values()} & torch.storage._new_dtypes():
        assert_equal(found, torch.load(path, weights_only=True))


@pytest.mark.parametrize("zipped", CONTAINERS, ids=NAMES)
@pytest.mark.parametrize("length", range(1, 8))
def test_data_at_any_byte_are_read(tmp_path, read_file, length, zipped) -> None:
    """The length of a name moves the old container's data."""
    path = tmp_path / "x.pth"
    value = {"n" * length: numbers(torch.float64, 4, 4), "t": numbers(torch.float32, 3, 5).T}
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    found = read_file(path)
    assert_equal(found, torch.load(path, weights_only=True))
    assert all(tensor.data_ptr() % tensor.itemsize == 0 for tensor in found.values())


def assert_equal(found: dict[str, torch.Tensor], loaded: dict) -> None:
    """All tensors of `loaded` are found, bit for bit, and laid out as new ones are."""
    expected = {n: t.detach() for n, t in loaded.items() if isinstance(t, torch.Tensor)}
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape), name
        assert tensor.stride() == torch.empty(tensor.shape).stride(), name
        assert content(tensor) == content(expected[name]), name


def content(tensor: torch.Tensor) -> bytes:
    items = tensor.detach().flatten().clone(memory_format=torch.contiguous_format)
    return items.view(torch.uint8).numpy().tobytes()


@pytest.fixture
def lightning(monkeypatch):
    """A class that old training checkpoints mention, under its name."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    with monkeypatch.context() as patch:
        for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, part, types.ModuleType(part))
        patch.setitem(sys.modules, name, module)
        yield module.ModelCheckpoint


@pytest.mark.parametrize("zipped", CONTAINERS, ids=NAMES)
def test_training_checkpoints_of_old_lightning_are_read(
    tmp_path, read_file, lightning, zipped
) -> None:
    callback, tensors = lightning(), views()
    callback.best = np.float64(0.5)
    value = {
        "state_dict": tensors,
        "callbacks": {lightning: {"best_model_score": torch.tensor(1.0), "callback": callback}},
        "loops": defaultdict(dict, {"epoch": {"n": 1}}),
    }
    torch.save(value, tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    assert list_tensors(tmp_path / "last.ckpt").others == ("callbacks", "loops")
    assert_equal(read_file(tmp_path / "last.ckpt"), tensors)


def rewrite(path: Path, **changes: bytes) -> None:
    """Give members of a torch zip other content."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, before in members.items():
            archive.writestr(name, changes.get(name.rpartition("/")[2], before))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8])
def test_the_other_byte_order_is_read(tmp_path, read_file, dtype) -> None:
    path, tensor = tmp_path / "x.pth", numbers(dtype, 5, 3)
    torch.save({"a": tensor.T}, path)
    swapped = np.frombuffer(content(tensor), f"u{dtype.itemsize}").byteswap().tobytes()
    rewrite(path, byteorder=b"big", **{"0": swapped})
    assert_equal(read_file(path), torch.load(path, weights_only=True))
    assert_equal(read_file(path), {"a": tensor.T})


def test_a_file_without_a_byte_order_is_little_endian(tmp_path, read_file) -> None:
    path, tensor = tmp_path / "x.pth", torch.arange(3.0)
    torch.save({"a": tensor}, path)
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist() if not n.endswith("byteorder")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert read_file(path)["a"].equal(tensor)


def test_damage_is_found_by_the_checksum(tmp_path, read_file) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.full((100,), 1.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(9).numpy().tobytes()) + 200] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CnctlError, match=r"is damaged: '.*data/0'"):
        read_file(path)


def test_a_tensor_can_be_changed_and_its_file_stays(tmp_path, read_file) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(100)}, path)
    before = path.read_bytes()
    read_file(path)["a"].zero_()
    assert path.read_bytes() == before


def test_a_file_that_changes_after_it_was_listed_is_an_error(tmp_path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(100)}, path)
    specs = list_tensors(path).tensors
    torch.save({"a": torch.ones(101)}, path)
    with pytest.raises(CnctlError, match="changed while it was read"):
        open_tensors(path, "torch", specs, specs)


def test_a_file_that_changes_after_it_was_opened_is_an_error(tmp_path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(100)}, path)
    specs = list_tensors(path).tensors
    tensor = open_tensors(path, "torch", specs, specs)["a"]
    torch.save({"a": torch.ones(101)}, path)
    with pytest.raises(CnctlError, match="changed while it was read"):
        tensor.read()


def test_a_big_file_is_mapped_again(tmp_path, monkeypatch) -> None:
    """Or its pages would count as our memory; tensors in use keep their own mapping."""
    monkeypatch.setattr(mapped, "MAPPED_BYTES", 1000)
    opened = []
    map_file = mapped.mmap.mmap
    monkeypatch.setattr(
        mapped.mmap, "mmap", lambda *args, **kw: opened.append(1) or map_file(*args, **kw)
    )
    path = tmp_path / "x.pth"
    value = {f"{n}": numbers(torch.float32, 200) for n in range(6)}
    torch.save(value, path)
    specs = list_tensors(path).tensors
    tensors = open_tensors(path, "torch", specs, specs)
    found = {name: lazy.read() for name, lazy in tensors.items()}
    assert len(opened) == 3
    assert all(content(found[name]) == content(value[name]) for name in value)
