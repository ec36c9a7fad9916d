"""Weights and moments in shards, by FSDP and by DeepSpeed: two processes on the CPU, over gloo."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from cnctl.system.processes import free_port

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("sharded_runs.py")
BEGUN = ["middle", "locked"]
RUNS = {
    "fsdp": ["everything", "middle-to-all", "lora", "concat", "unfrozen"],
    "deepspeed-zero2": ["everything", "middle-to-all", "lora", "concat", "unfrozen-later"],
    "deepspeed-zero3": ["grown", "middle-to-all"],
}


@pytest.fixture(scope="module")
def alone(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of all runs."""
    out = tmp_path_factory.mktemp("alone")
    names = BEGUN + sorted({name for names in RUNS.values() for name in names})
    command = [sys.executable, SCRIPT, random_base, out, "4", *names]
    subprocess.run(command, check=True, timeout=600)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_two_with_shards_are_as_one_without(
    kind: str, alone: Path, random_base: Path, tmp_path: Path
) -> None:
    """Losses, norms and weights, also of runs that one process without shards has begun."""
    for name in BEGUN:
        shutil.copytree(alone / name, tmp_path / name)
    launch(kind, SCRIPT, random_base, tmp_path, "2", *RUNS[kind])
    for name in RUNS[kind]:
        curves = [json.loads((out / f"{name}.json").read_text()) for out in (alone, tmp_path)]
        np.testing.assert_allclose(*curves, rtol=1e-4, err_msg=name)
        expected, found = (load_file(out / f"{name}.safetensors") for out in (alone, tmp_path))
        assert found.keys() == expected.keys()
        for key, weight in expected.items():
            np.testing.assert_allclose(found[key], weight, atol=1e-3, err_msg=f"{name} {key}")
        counts = [steps(out / name) for out in (alone, tmp_path)]
        assert counts[0] == counts[1]


def steps(folder: Path) -> dict[str, float]:
    """How often each parameter has been changed, as the newest checkpoint says."""
    moments = load_file(max(folder.glob("step-*")) / "optimizer.safetensors")
    return {key: float(value) for key, value in moments.items() if key.startswith("step/")}


def launch(kind: str, *command: object) -> None:
    """Run a script in two processes as examples/accelerate says."""
    config = ROOT / f"examples/accelerate/{kind}.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    launcher += ["--num_processes", "2", "--main_process_port", str(free_port())]
    subprocess.run([*launcher, *map(str, command)], check=True, timeout=600)
