"""A writer that is killed leaves what was there before, or nothing: never half a file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import torch
from cnctl.tensorfiles.lazy import LazyTensor
from cnctl.tensorfiles.write import write_file, write_folder

tensors = {
    f"layer{i}": LazyTensor(torch.float32, (64, 64), lambda i=i: torch.full((64, 64), float(i)))
    for i in range(8)
}


def write(target, advance):
    if target.suffix:
        write_file(target, tensors, metadata=lambda _: {}, overwrite=True, advance=advance)
    else:
        write_folder(
            target, tensors, config={}, description=dict, overwrite=True, advance=advance
        )


def killed_after(left):
    def advance(done):
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return advance


for target in map(Path, sys.argv[1:]):
    for last in range(len(tensors)):
        child = os.fork()
        if not child:
            write(target, killed_after(last))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.slow
def test_kill_9_at_each_tensor(tmp_path: Path) -> None:
    new, earlier = tmp_path / "new", tmp_path / "earlier"
    new.mkdir()
    (earlier / "folder").mkdir(parents=True)
    kept = [earlier / "x.safetensors", earlier / "folder" / "diffusion_pytorch_model.safetensors"]
    for path in kept:
        save_file({"old": torch.ones(3)}, path)
    targets = [folder / name for folder in (new, earlier) for name in ("x.safetensors", "folder")]
    script = [sys.executable, "-c", KILLED_WHILE_WRITING, *map(str, targets)]
    run = subprocess.run(script, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not (new / "x.safetensors").exists()
    assert not (new / "folder").exists()
    assert all(load_file(path)["old"].equal(torch.ones(3)) for path in kept)
