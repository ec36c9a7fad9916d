"""Files that would run code or eat the machine: refused in one line, and nothing of them runs.

Each payload is first proven to be live: plain `torch.load(weights_only=False)` runs it.
"""

import builtins
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cnctl.errors import CnctlError
from cnctl.formats import load_controlnet, read_description
from cnctl.formats.source import open_source

EVENTS = {"os.system", "subprocess.Popen", "os.posix_spawn", "os.exec", "exec", "compile"}
_seen: list[str] | None = None


def _audit(event: str, arguments: object) -> None:
    if _seen is not None and event in EVENTS:
        _seen.append(event)


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What Python's own audit events say was run meanwhile."""
    global _seen
    _seen = []
    try:
        yield _seen
    finally:
        _seen = None


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class State:
    """Pickles as an ordered dictionary whose state holds a call."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return OrderedDict, (), {"hook": self.call}


TENSOR = torch.zeros(2)
PAYLOADS: dict[str, Callable[[str], object]] = {
    "os.system": lambda p: Call(os.system, f"touch {p}"),
    "eval": lambda p: Call(eval, f"open({p!r}, 'w').close()"),
    "builtins.exec": lambda p: Call(builtins.exec, f"open({p!r}, 'w').close()"),
    "subprocess": lambda p: Call(subprocess.check_call, ["touch", p]),
    "Path.touch": lambda p: Call(Path.touch, Path(p)),
    "os.mkdir": lambda p: Call(os.mkdir, p),
    "torch.save": lambda p: Call(torch.save, 1, p),
}
NESTINGS: dict[str, Callable[[object], object]] = {
    "alone": lambda call: call,
    "beside tensors": lambda call: {"weight": TENSOR, "hook": call},
    "in state_dict": lambda call: {"state_dict": {"weight": TENSOR, "x": [{"y": (call,)}]}},
    "as a key": lambda call: {"weight": TENSOR, (call,): 1},
    "as state": lambda call: {"weight": TENSOR, "hook": State(call)},
}


def write_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def write_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


CONTAINERS = {"zip": write_zip, "legacy": write_legacy}
CASES = [
    (payload, nesting, container)
    for payload in PAYLOADS
    for nesting in NESTINGS
    for container in CONTAINERS
]


@pytest.mark.parametrize(("payload", "nesting", "container"), CASES, ids="-".join)
def test_nothing_runs(tmp_path, payload, nesting, container) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    CONTAINERS[container](NESTINGS[nesting](PAYLOADS[payload](str(canary))), path)
    for read in (open_source, read_description, load_controlnet):
        with watched() as events, pytest.raises(CnctlError, match=r"was refused") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert events == []
        assert not canary.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_files_run_without_the_guard(tmp_path, payload, container) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    CONTAINERS[container]({"weight": TENSOR, "hook": PAYLOADS[payload](str(canary))}, path)
    with watched() as events:
        torch.load(path, weights_only=False)["hook"]
    assert canary.exists()
    assert payload in ("os.mkdir", "torch.save", "Path.touch") or events


def test_a_call_in_the_header_of_the_old_container_does_not_run(tmp_path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    write_legacy({"weight": TENSOR}, path)
    content = path.read_bytes()
    magic = content.index(b".") + 1
    call = pickle.dumps(Call(os.system, f"touch {canary}"), protocol=2)
    path.write_bytes(content[:magic] + call + content[magic:])
    with pytest.raises(CnctlError, match=r"it asks for posix\.system"):
        open_source(path)
    assert not canary.exists()


def test_a_bare_pickle_is_not_opened(tmp_path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {canary}")))
    with pytest.raises(CnctlError, match="a bare pickle"):
        open_source(path)
    assert not canary.exists()


def test_a_pickle_named_safetensors_does_not_run(tmp_path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.safetensors"
    write_zip({"hook": Call(os.system, f"touch {canary}")}, path)
    with pytest.raises(CnctlError, match="was refused"):
        open_source(path)
    assert not canary.exists()


def test_a_folder_with_a_hostile_bin_does_not_run(tmp_path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "config.json").write_text("{}")
    write_zip(
        {"hook": Call(os.system, f"touch {canary}")}, tmp_path / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(CnctlError, match="was refused"):
        load_controlnet(tmp_path)
    assert not canary.exists()


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
        pytest.param(
            {"data_pkl": pickled("(10**9,)", numel=10**9)}, "more than the file", id="storage"
        ),
        pytest.param({"data__0": None}, "not a whole torch file", id="no data"),
        pytest.param({"data_pkl": None}, "not a whole torch file", id="no pickle"),
        pytest.param({"data_pkl": b""}, "not a whole torch file", id="empty pickle"),
        pytest.param({"data_pkl": pickled("(2,)") + b"x"}, "more follows", id="more"),
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
def test_what_would_eat_the_machine_is_refused(tmp_path, changes, why) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": TENSOR}, path)
    repack(path, **changes)
    with pytest.raises(CnctlError, match=why) as caught:
        load_controlnet(path)
    assert "\n" not in str(caught.value)


def test_a_zip_bomb_is_refused_unread(tmp_path) -> None:
    """8 MiB that would unfold to 2 GiB; torch itself reads such files."""
    path = tmp_path / "bomb.pth"
    torch.save({"weight": TENSOR}, path)
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].split("/")[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled("(2**29,)", numel=2**29))
        with archive.open(f"{folder}/data/0", "w", force_zip64=True) as member:
            zeros = bytes(1 << 24)
            for _ in range(128):
                member.write(zeros)
    assert 6 << 20 < path.stat().st_size < 10 << 20
    with pytest.raises(CnctlError, match="it is compressed"):
        load_controlnet(path)


def test_members_listed_twice_are_refused(tmp_path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": TENSOR}, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"N.")
    with pytest.raises(CnctlError, match="lists files twice"):
        open_source(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>Access denied</html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "no file of weights"),
        (b"PK\x03\x04", "not a whole torch file"),
        (b"PK\x03\x04" + b"\0" * 100, "not a whole torch file"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "not a whole torch file"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "a tar file of a very old torch"),
        (b"GIF89a", "no file of weights"),
    ],
    ids=range(10),
)
def test_other_files_are_named(tmp_path, content, what) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CnctlError, match=what) as caught:
        load_controlnet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_truncated_files_are_one_line(tmp_path, container, share) -> None:
    path = tmp_path / "weights.pth"
    CONTAINERS[container]({f"layer.{n}": torch.ones(64, 8) for n in range(40)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CnctlError, match=r"not a whole torch file|no file of weights|bare pickle"):
        load_controlnet(path)
