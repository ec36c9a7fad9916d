"""Files that run code when they are unpickled: refused in one line, and nothing of them runs.

A file is a payload (what it calls), a nesting (where the call is in the pickle) and a container.
A payload only leaves a mark, the canary: a file or folder at the given path. Each is first proven
to be live: plain `torch.load(weights_only=False)` runs it.
"""

import builtins
import functools
import importlib
import io
import logging
import operator
import os
import pathlib
import pickle
import runpy
import shutil
import subprocess
import sys
import tarfile
import timeit
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from torch import _weights_only_unpickler

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.source import open_source, read_description
from cnctl.models.unet.load import load_controlnet

TENSOR = torch.zeros(2)


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __call__(self) -> None:
        """The pickler wants what is called to be callable."""

    def __reduce__(self) -> tuple:
        return self.call


class State:
    """Pickles as an ordered dictionary whose state holds a call."""

    def __init__(self, call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return OrderedDict, (), {"hook": self.call}


class Items:
    """Pickles as a dictionary that is filled with what a call gives."""

    def __init__(self, call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return OrderedDict, (), None, None, iter([("hook", self.call)])


def touch(path: str) -> str:
    return f"open({path!r}, 'w').close()"


PAYLOADS: dict[str, Callable[[str], object]] = {
    "os.system": lambda p: Call(os.system, f"touch {p}"),
    "os.popen": lambda p: Call(Call(getattr, Call(os.popen, f"touch {p}"), "read")),
    "os.mkdir": lambda p: Call(os.mkdir, p),
    "os.makedirs": lambda p: Call(os.makedirs, p),
    "os.open": lambda p: Call(os.open, p, os.O_CREAT | os.O_WRONLY),
    "os.symlink": lambda p: Call(os.symlink, "/", p),
    "os.mkfifo": lambda p: Call(os.mkfifo, p),
    "os.posix_spawn": lambda p: Call(
        os.waitpid, Call(os.posix_spawn, "/bin/sh", ["sh", "-c", f"touch {p}"], {}), 0
    ),
    "subprocess.call": lambda p: Call(subprocess.call, ["touch", p]),
    "subprocess.run": lambda p: Call(subprocess.run, ["touch", p]),
    "subprocess.check_output": lambda p: Call(subprocess.check_output, ["touch", p]),
    "eval": lambda p: Call(eval, touch(p)),
    "exec": lambda p: Call(builtins.exec, touch(p)),
    "compile": lambda p: Call(exec, Call(compile, touch(p), "x", "exec")),
    "open": lambda p: Call(open, p, "w"),
    "io.FileIO": lambda p: Call(io.FileIO, p, "w"),
    "getattr": lambda p: Call(Call(getattr, Call(importlib.import_module, "os"), "mkdir"), p),
    "__import__": lambda p: Call(Call(getattr, Call(__import__, "os"), "mkdir"), p),
    "map": lambda p: Call(list, Call(map, os.mkdir, [p])),
    "filter": lambda p: Call(tuple, Call(filter, os.mkdir, [p])),
    "functools.partial": lambda p: Call(Call(functools.partial, os.mkdir, p)),
    "functools.reduce": lambda p: Call(functools.reduce, os.mkdir, [p, 0o700]),
    "operator.methodcaller": lambda p: Call(Call(operator.methodcaller, "mkdir"), Path(p)),
    "pathlib.touch": lambda p: Call(pathlib.Path.touch, Path(p)),
    "pathlib.write_text": lambda p: Call(pathlib.Path.write_text, Path(p), "x"),
    "logging.FileHandler": lambda p: Call(Call(getattr, Call(logging.FileHandler, p), "close")),
    "shutil.copyfile": lambda p: Call(shutil.copyfile, "/proc/self/comm", p),
    "timeit.timeit": lambda p: Call(timeit.timeit, touch(p), "pass", timeit.default_timer, 1),
    "runpy.run_path": lambda p: Call(runpy.run_path, script(p)),
    "pickle.loads": lambda p: Call(pickle.loads, pickle.dumps(Call(os.mkdir, p))),
    "torch.save": lambda p: Call(torch.save, 1, p),
}
"""Loaded without a guard, each leaves the canary."""

NESTINGS: dict[str, Callable[[object], object]] = {
    "alone": lambda call: call,
    "beside tensors": lambda call: {"weight": TENSOR, "hook": call},
    "in state_dict": lambda call: {"state_dict": {"weight": TENSOR, "x": [{"y": (call,)}]}},
    "as a key": lambda call: {"weight": TENSOR, (call,): 1},
    "as state": lambda call: {"weight": TENSOR, "hook": State(call)},
    "as items": lambda call: {"weight": TENSOR, "hook": Items(call)},
    "in a default": lambda call: {"weight": TENSOR, "loops": defaultdict(dict, {"n": call})},
}


def script(path: str) -> str:
    """A Python file that makes the canary."""
    place = Path(path).with_name("script.py")
    place.write_text(touch(path))
    return str(place)


def as_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def as_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def as_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def as_old_pickle(value: object, path: Path) -> None:
    """Protocol 0, which is text."""
    path.write_bytes(pickle.dumps(value, protocol=0))


def as_compressed_zip(value: object, path: Path) -> None:
    torch.save(value, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def as_tar(value: object, path: Path) -> None:
    content = pickle.dumps(value)
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("storages")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def as_legacy_header(value: object, path: Path) -> None:
    """The payload stands where the old container has its protocol."""
    as_legacy({"weight": TENSOR}, path)
    content = path.read_bytes()
    magic = content.index(b".") + 1
    path.write_bytes(content[:magic] + pickle.dumps(value, protocol=2) + content[magic:])


def behind_a_zip(value: object, path: Path) -> None:
    """A harmless zip in front, the payload's zip behind: readers differ in which they see."""
    torch.save({"weight": TENSOR}, path)
    front = path.read_bytes()
    torch.save(value, path)
    path.write_bytes(front + path.read_bytes())


UNGUARDED = {"zip": as_zip, "legacy": as_legacy}
"""Containers that torch.load opens without its guard."""
CONTAINERS = UNGUARDED | {
    "pickle": as_pickle,
    "old pickle": as_old_pickle,
    "compressed zip": as_compressed_zip,
    "tar": as_tar,
    "legacy header": as_legacy_header,
    "behind a zip": behind_a_zip,
}

REFUSED = "was refused|a bare pickle|a very old torch|not a file of weights"
EVENTS = {
    "pickle.find_class", "import", "exec", "compile", "os.system", "os.exec", "os.fork",
    "os.posix_spawn", "subprocess.Popen",
}  # fmt: skip
_seen: list[str] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if _seen is not None and event in EVENTS:
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@pytest.fixture
def watched(read_file, tmp_path, monkeypatch) -> Callable:
    """A context that returns what Python's own audit events say was run inside.

    torch's unpickler is written in Python and has no event: it fails when it is used.
    """
    "".encode("cp437")  # zipfile's names
    for content in ({"weight": TENSOR}, [os.system]):  # what is imported at first use comes before
        torch.save(content, tmp_path / "first.pth")
        with suppress(CnctlError):
            read_file(tmp_path / "first.pth")

    def unpickle(*arguments: object, **named: object) -> None:
        raise AssertionError("an unpickler runs")

    monkeypatch.setattr(torch, "load", unpickle)
    monkeypatch.setattr(_weights_only_unpickler, "Unpickler", unpickle)
    return _watched


@contextmanager
def _watched() -> Iterator[list[str]]:
    global _seen
    _seen = []
    try:
        yield _seen
    finally:
        _seen = None


def corpus(payload: str, canary: Path, folder: Path) -> Iterator[Path]:
    """All files with this payload, under one name, one after the other."""
    for container, write in CONTAINERS.items():
        for nesting, nest in NESTINGS.items():
            if container in UNGUARDED or nesting == "beside tensors":
                path = folder / "weights.pth"
                write(nest(PAYLOADS[payload](str(canary))), path)
                yield path


def test_there_are_enough() -> None:
    per_payload = len(UNGUARDED) * len(NESTINGS) + len(CONTAINERS) - len(UNGUARDED)
    assert len(PAYLOADS) * per_payload >= 500


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_runs(tmp_path, read_file, watched, payload) -> None:
    canary = tmp_path / "canary"
    for path in corpus(payload, canary, tmp_path):
        with watched() as events, pytest.raises(CnctlError, match=REFUSED) as caught:
            read_file(path)
        assert "\n" not in str(caught.value)
        assert events == []
        assert not os.path.lexists(canary)


@pytest.mark.parametrize("write", UNGUARDED.values(), ids=UNGUARDED)
def test_tensors_are_read_without_an_unpickler(tmp_path, read_file, watched, write) -> None:
    path, tensors = tmp_path / "x.ckpt", {"a": torch.arange(6.0).reshape(2, 3).T, "b": TENSOR}
    write({"state_dict": tensors, "epoch": 3}, path)
    with watched() as events:
        found = read_file(path)
    assert events == []
    assert found.keys() == tensors.keys()
    assert all(found[name].equal(tensors[name]) for name in tensors)


def test_the_watch_sees_an_unpickler(watched) -> None:
    """Or the tests above would prove nothing."""
    with watched() as events:
        pickle.loads(pickle.dumps(OrderedDict()))
    assert events == ["pickle.find_class ('collections', 'OrderedDict')"]
    with pytest.raises(AssertionError, match="an unpickler runs"):
        torch.load("x")


@pytest.mark.parametrize("read", [open_source, read_description, load_controlnet])
def test_no_door_is_open(tmp_path, watched, read) -> None:
    """Under the names and in the folders that other doors look for."""
    canary, call = tmp_path / "canary", PAYLOADS["os.system"](str(tmp_path / "canary"))
    (tmp_path / "config.json").write_text("{}")
    for name in ("weights.safetensors", "diffusion_pytorch_model.bin"):
        as_zip({"weight": TENSOR, "hook": call}, tmp_path / name)
    for path in (tmp_path / "weights.safetensors", tmp_path):
        with watched() as events, pytest.raises(CnctlError, match="was refused"):
            read(path)
        assert events == []
        assert not canary.exists()


WITHOUT_GUARD = """
import sys, torch
for path in sys.argv[1:]:
    try:
        torch.load(path, weights_only=False)
    except Exception as error:
        print(path, error)
"""


@pytest.mark.slow
def test_the_same_files_run_without_the_guard(tmp_path) -> None:
    canaries, paths = {}, []
    for payload, make in PAYLOADS.items():
        for container, write in UNGUARDED.items():
            folder = tmp_path / f"{payload}-{container}"
            folder.mkdir()
            canaries[payload, container] = folder / "canary"
            write({"weight": TENSOR, "hook": make(str(folder / "canary"))}, folder / "weights.pth")
            paths.append(folder / "weights.pth")
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_GUARD, *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    dead = [case for case, canary in canaries.items() if not os.path.lexists(canary)]
    assert dead == [], run.stdout
