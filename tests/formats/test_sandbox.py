"""torch's own reader in its child: what it may read, how it is held, and what it may not see."""

import sys
import types

import pytest
import torch
from safetensors.torch import load_file

from cnctl.errors import CnctlError
from cnctl.formats import sandbox, torchfile
from cnctl.formats.sandbox import extract_tensors


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2)}, path)
    return path


def test_the_child_is_held_to_its_memory(source, tmp_path, monkeypatch) -> None:
    """A file that the static check would have refused: 10^9 floats in some bytes."""
    value = {"a": torch.zeros(1).expand(10**9)}
    torch.save(value, source)
    monkeypatch.setattr(sandbox, "SPARE_BYTES", 1 << 28)
    with pytest.raises(CnctlError, match=r"was refused: .*(memory|allocate)") as caught:
        extract_tensors(source, tmp_path / "out", names=["a"])
    assert "\n" not in str(caught.value)


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
