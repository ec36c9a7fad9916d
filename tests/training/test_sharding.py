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
        assert_same(name, alone, tmp_path)
        counts = [steps(out / name) for out in (alone, tmp_path)]
        assert counts[0] == counts[1]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd3", "flux", "zimage"])
def test_transformers_are_sharded_too(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Their blocks, parameters outside of any, and buffers; accelerate has other names for them."""
    base = request.getfixturevalue(f"random_{family}_base")
    names = ["everything", "lora", *(["unfrozen-all"] if family != "zimage" else [])]
    names += ["concat-lora"] if family == "flux" else []
    command = [sys.executable, SCRIPT, base, tmp_path / "alone", "4", *names]
    subprocess.run(command, check=True, timeout=600)
    launch("fsdp", SCRIPT, base, tmp_path / "sharded", "2", *names)
    for name in names:
        assert_same(name, tmp_path / "alone", tmp_path / "sharded")


def assert_same(name: str, *outs: Path) -> None:
    """Losses, norms and weights of a run in two folders."""
    curves = [json.loads((out / f"{name}.json").read_text()) for out in outs]
    np.testing.assert_allclose(*curves, rtol=1e-4, err_msg=name)
    expected, found = (load_file(out / f"{name}.safetensors") for out in outs)
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        np.testing.assert_allclose(found[key], weight, atol=1e-3, err_msg=f"{name} {key}")


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
