"""torch's own reader in its child: what it may read, how it is held, and what it may not see."""

import ast
import sys
import types

import pytest
import torch
from safetensors.torch import load_file

from cnctl.errors import CnctlError
from cnctl.tensorfiles import sandbox, torchfile
from cnctl.tensorfiles.sandbox import extract_tensors, shared_reader

SPY = """
import importlib.util, os, resource

spec = importlib.util.spec_from_file_location("torch_child", {child!r})
torch_child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torch_child)


def tell(source, **how):
    raise SystemExit(repr({{
        "process": os.getpid(),
        "program": os.getppid(),
        "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
        "seconds": resource.getrlimit(resource.RLIMIT_CPU)[0],
        "files": os.listdir("/proc/self/fd"),
        "threads": os.listdir(f"/proc/{{os.getppid()}}/task"),
    }}))


torch_child._load = tell
torch_child.main()
"""
"""The child program; but instead of reading a file it tells what it is just before."""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2)}, path)
    return path


def test_the_child_sees_nothing_of_the_users_environment(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert set(sandbox._environment()) <= {
        "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PYTHONPATH", "SYSTEMROOT",
    }  # fmt: skip


def test_a_child_that_crashes_is_one_line(source, tmp_path, monkeypatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(sandbox, "CHILD", child)
    with pytest.raises(CnctlError, match="crashed torch's reader"):
        extract_tensors(source, tmp_path / "out", names=["a"])


def test_a_child_that_hangs_is_stopped(source, tmp_path, monkeypatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(sandbox, "CHILD", child)
    monkeypatch.setattr(sandbox, "LEAST_SECONDS", 0.1)
    with pytest.raises(CnctlError, match="needed more than"):
        extract_tensors(source, tmp_path / "out", names=["a"])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each file has its own program")
def test_a_file_is_read_in_a_limited_fork_of_its_own(source, tmp_path, monkeypatch) -> None:
    spy = tmp_path / "spy.py"
    spy.write_text(SPY.format(child=str(sandbox.CHILD)))
    monkeypatch.setattr(sandbox, "CHILD", spy)

    def told() -> dict:
        with pytest.raises(CnctlError, match="was refused: ") as caught:
            extract_tensors(source, tmp_path / "out", names=["a"])
        return ast.literal_eval(str(caught.value).partition("was refused: ")[2])

    with shared_reader():
        first, second = told(), told()
    assert first["program"] == second["program"] == int(*first["threads"])
    assert len({first["program"], first["process"], second["process"]}) == 3
    assert 0 < first["memory"] < 16 << 30
    assert 0 < first["seconds"] < 100
    assert sorted(first["files"]) == ["0", "1", "2"]  # the 0 is of the listing itself


def test_a_file_is_held_to_its_memory_and_harms_no_other(source, tmp_path, monkeypatch) -> None:
    """10^9 floats in some bytes, which the static check would have refused."""
    bomb, out = tmp_path / "bomb.pth", tmp_path / "out"
    torch.save({"a": torch.zeros(1).expand(10**9)}, bomb)
    monkeypatch.setattr(sandbox, "SPARE_BYTES", 1 << 28)
    with shared_reader():
        for _ in range(2):
            with pytest.raises(CnctlError, match=r"was refused: .*(memory|allocate)") as caught:
                extract_tensors(bomb, out, names=["a"])
            assert "\n" not in str(caught.value)
            extract_tensors(source, out, names=["a", "b"])
            assert load_file(out)["a"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_after_a_reader_that_was_too_slow_comes_another(source, tmp_path, monkeypatch) -> None:
    with shared_reader():
        with monkeypatch.context() as patch:
            patch.setattr(sandbox, "LEAST_SECONDS", 0)
            with pytest.raises(CnctlError, match="needed more than"):
                extract_tensors(source, tmp_path / "out", names=["a"])
        extract_tensors(source, tmp_path / "out", names=["a"])
    assert list(load_file(tmp_path / "out")) == ["a"]


@pytest.fixture
def lightning(monkeypatch):
    """Modules under the names that old training checkpoints mention; gone when the file is read."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)
    return module.ModelCheckpoint


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_training_checkpoints_of_old_lightning_are_read(tmp_path, lightning, zipped) -> None:
    import collections

    import numpy as np

    callback = lightning()
    callback.best = np.float64(0.5)
    value = {
        "state_dict": {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2)},
        "callbacks": {lightning: {"best_model_score": torch.tensor(1.0), "callback": callback}},
        "loops": collections.defaultdict(dict, {"epoch": {"n": 1}}),
    }
    path = tmp_path / "last.ckpt"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    listing = torchfile.list_torch_file(path)
    assert listing.wrapper == "state_dict"
    assert list(listing.tensors) == ["a", "b"]
    extract_tensors(path, tmp_path / "out", names=["a"])
    read = load_file(tmp_path / "out")
    assert list(read) == ["a"]
    assert read["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
