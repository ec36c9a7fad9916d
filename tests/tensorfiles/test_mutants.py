"""Damaged checkpoints: an error line, or a result that a second reading of the same bytes gives.

    CNCTL_MUTANTS=3000 pytest -n0 tests/tensorfiles/test_mutants.py

makes so many of each container; without the variable some hundreds.
"""

import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file

from cnctl.errors import CnctlError

COUNT = int(os.environ.get("CNCTL_MUTANTS", "200"))
Tensors = dict[str, torch.Tensor]


def few() -> Tensors:
    """A small network's worth: enough names that half of all damage hits them."""
    random = torch.Generator().manual_seed(0)
    return {
        f"{part}.{layer}.{kind}": torch.randn(shape, generator=random)
        for part in ("down_blocks", "mid_block", "controlnet_cond_embedding")
        for layer in range(5)
        for kind, shape in (("weight", (8, 4, 3)), ("bias", (8,)))
    }


def write_zip(tensors: Tensors, path: Path) -> None:
    torch.save(tensors, path)


def write_legacy(tensors: Tensors, path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


WRITERS: dict[str, Callable[[Tensors, Path], None]] = {
    "safetensors": save_file,
    "zip": write_zip,
    "legacy": write_legacy,
}


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One to three small damages, half of them where the file is described and not its numbers."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        place = chance.randrange(len(data))
        if chance.random() < 0.5:
            letters = [n for n in range(0, len(data), 7) if 32 <= data[n] < 127]
            place = chance.choice(letters or [place])
        length = min(chance.choice([1, 1, 2, 4, 8, 64]), len(data) - place)
        other = chance.randrange(len(data))
        match chance.randrange(7):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place : place + length] = chance.randbytes(length)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = chance.randbytes(length)
            case 4:
                data[place:place] = data[other : other + length]
            case 5:
                data[place : place + length] = chance.choice([b"\xff", b"\0", b"\x7f"]) * length
            case 6:
                del data[place:]
        if not data:
            return b""
    return bytes(data)


def second_reading(container: str, path: Path) -> Tensors:
    """The tensors as numpy sees them where our listing says that they lie."""
    if container == "safetensors":
        return load_safetensors(path.read_bytes())
    return unpickled(path) if container == "zip" else unpickled_legacy(path)


class Dictionary(dict):
    """torch's own state_dict has attributes too."""


class Storages(pickle._Unpickler):
    """Gives numpy arrays for tensors; everything but tensors is refused.

    Python's and not C's, which makes room for as many memos as one number in the file says.
    """

    data: Callable[[str, int], bytes]

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "_rebuild_tensor_v2": self.rebuild,
            "OrderedDict": Dictionary,
            "FloatStorage": np.dtype("<f4"),
        }
        return known[name]

    def persistent_load(self, identity: Any) -> np.ndarray:
        _, dtype, key, _, count, *_ = identity
        return np.frombuffer(self.data(key, 4 * count), dtype)

    @staticmethod
    def rebuild(storage, offset, shape, stride, *_):
        steps = tuple(4 * step for step in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()


def unpickled(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].split("/")[0]
        with archive.open(f"{folder}/data.pkl") as file:
            reader = Storages(file)
            reader.data = lambda key, _: archive.read(f"{folder}/data/{key}")
            return {name: torch.from_numpy(array) for name, array in reader.load().items()}


def unpickled_legacy(path: Path) -> Tensors:
    """Pass over the pickles first: the numbers stand behind them, in the order of the last."""
    with path.open("rb") as file:
        for _ in range(3):
            pickle.load(file)
        place = file.tell()
        probe = Storages(file)
        probe.data = lambda _, size: bytes(size)
        probe.load()
        keys, numbers = pickle.load(file), {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            numbers[key] = file.read(4 * count)
        file.seek(place)
        reader = Storages(file)
        reader.data = lambda key, _: numbers[key]
        return {name: torch.from_numpy(array) for name, array in reader.load().items()}


def attempt(read: Callable[[Path], Tensors], path: Path) -> Tensors | str:
    """What the reader makes of it: tensors, or an error line."""
    try:
        return read(path)
    except CnctlError as error:
        return str(error)


@pytest.mark.parametrize("container", WRITERS)
def test_mutants_are_refused_or_read_as_they_are(tmp_path, read_file, container) -> None:
    path = tmp_path / "mutant"
    WRITERS[container](few(), tmp_path / "original")
    content = (tmp_path / "original").read_bytes()
    read = refused = 0
    for seed in range(COUNT):
        path.write_bytes(mutate(content, random.Random(seed)))
        tensors = attempt(read_file, path)
        if isinstance(tensors, str):
            assert "\n" not in tensors, seed
            refused += 1
            continue
        read += 1
        again = second_reading(container, path)
        assert {n: t.dtype for n, t in tensors.items()} == {n: again[n].dtype for n in tensors}
        for name, tensor in tensors.items():
            same = tensor.numpy().tobytes() == again[name].numpy().tobytes()
            assert same, f"mutant {seed}: {name}"
    assert min(refused, read) > COUNT // 50
    print(f"{container}: {refused} refused, {read} read as they are")


@pytest.mark.parametrize("container", WRITERS)
def test_the_original_is_read(tmp_path, read_file, container) -> None:
    """Or the test above would prove nothing."""
    path = tmp_path / "original"
    WRITERS[container](few(), path)
    read, again = read_file(path), second_reading(container, path)
    for name, tensor in few().items():
        assert torch.equal(read[name], tensor)
        assert torch.equal(again[name], tensor)
