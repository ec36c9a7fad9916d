import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cnctl.errors import CnctlError, OutputError
from cnctl.system.atomic import PREFIX
from cnctl.training.checkpoints import lock_folder, newest_checkpoint, save_checkpoint


def tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(4, 3, generator=generator), "b": torch.tensor(float(step))}
    return {"weights": weights, "optimizer": {"exp_avg/b": torch.ones(())}}


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, step, tensors=tensors(step), state={"at": step}, keep=keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 7)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.state) == (7, {"at": 7})
    for group, named in tensors(7).items():
        loaded = checkpoint.tensors(group)
        assert loaded.keys() == named.keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in named.items())


def test_the_newest_two_stay(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, 30, 40)
    assert names(tmp_path) == ["step-00000030", "step-00000040"]


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    save(tmp_path, 1)
    files = names(tmp_path / "step-00000001")
    assert files == ["MANIFEST.json", "optimizer.safetensors", "state.json", "weights.safetensors"]


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_a_damaged_one_is_told_and_the_one_before_used(tmp_path: Path, name: str, how: str) -> None:
    save(tmp_path, 10, 20)
    path = tmp_path / "step-00000020" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "flip": lambda: path.write_bytes(data),
        "truncate": lambda: path.write_bytes(data[: len(data) // 2]),
        "remove": path.unlink,
    }[how]()
    said: list[str] = []
    checkpoint = newest_checkpoint(tmp_path, note=said.append)
    assert checkpoint is not None
    assert checkpoint.step == 10
    assert len(said) == 1
    assert name in said[0]
    assert "the previous one is used" in said[0]
    save(tmp_path, 20)  # the damaged one makes room
    assert newest_checkpoint(tmp_path).step == 20  # type: ignore[union-attr]


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step-00000001" / "weights.safetensors"
    whole = path.read_bytes()
    for position in range(0, len(whole) * 8, 7):
        data = bytearray(whole)
        data[position // 8] ^= 1 << position % 8
        path.write_bytes(data)
        with pytest.raises(CnctlError, match=r"every checkpoint in .* is damaged"):
            newest_checkpoint(tmp_path)
    path.write_bytes(whole)
    assert newest_checkpoint(tmp_path) is not None


def test_leftovers_of_a_kill_are_no_checkpoints_and_go(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / f"{PREFIX}30").mkdir()
    (tmp_path / f"{PREFIX}10" / "old").mkdir(parents=True)
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 40)
    assert names(tmp_path) == ["step-00000040"]


def test_a_full_disk_leaves_the_older_ones(tmp_path: Path) -> None:
    save(tmp_path, 10, 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            save_checkpoint(tmp_path, 30, tensors={"weights": {"a": torch.ones(2000)}}, state={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000010", "step-00000020"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    script = "import fcntl; f = open('.lock', 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(OutputError, match="is in use by another run"), lock_folder(tmp_path):
            pass
        other.kill()
    (tmp_path / "log.jsonl").touch()
    with lock_folder(tmp_path):  # the lock went with the process
        pass
    assert (tmp_path / "log.jsonl").exists()


def test_a_folder_in_which_nothing_was_done_goes_again(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "run"):
        assert json.dumps(names(tmp_path / "run")) == '[".lock"]'
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), lock_folder(tmp_path / "file/run"):
        pass
