"""Trains small networks in several ways and keeps what has come of it.

Alone, or as one of the processes that a launcher has started:
python sharded_runs.py BASE OUT BATCH_SIZE NAME...
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ended_groups import threads_of_groups
from safetensors.torch import save_file

from cnctl.data import Pair
from cnctl.models.families import load_base
from cnctl.settings import TrainSettings
from cnctl.training.accelerator import load_deepspeed
from cnctl.training.checkpoints import newest_checkpoint, save_checkpoint
from cnctl.training.process_group import ProcessGroup
from cnctl.training.trainer import Training

SETTINGS = TrainSettings(steps=3, learning_rate=1e-3, resolution=32, seed=3)
RUNS: dict[str, dict[str, Any]] = {
    "everything": {
        "gradient_accumulation": 2,
        "gradient_checkpointing": True,
        "ema": 0.9,
        "lr_warmup": 2,
        "max_grad_norm": 0.1,
    },
    "middle": {"connect": "middle", "steps": 2},
    "middle-to-all": {"resume": "middle"},
    "lora": {"lora": 4},
    "concat": {"method": "input-concat", "learning_rate": 1e-4},
    "unfrozen": {"unfreeze_after": 2, "ema": 0.9, "learning_rate": 1e-4},
    "locked": {"steps": 2, "learning_rate": 1e-4},
    "unfrozen-later": {
        "resume": "locked",
        "unfreeze_after": 2,
        "unfreeze": "all",
        "learning_rate": 1e-4,
    },
    "unfrozen-all": {"unfreeze_after": 2, "unfreeze": "all", "learning_rate": 1e-4},
    "concat-lora": {"method": "input-concat", "lora": 4},
    "grown": {"grow": 2},
    "half": {"dtype": "bfloat16", "resolution": 64},
}


class Noise:
    """Eight examples."""

    groups = (0,) * 8

    def __init__(self, side: int) -> None:
        self.side = side

    def __len__(self) -> int:
        return 8

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        shape = (self.side, self.side, 3)
        image = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        return Pair(image, image, f"a {index}")

    def name(self, index: int) -> str:
        return f"noise {index}"


def run(name: str, base_path: Path, out: Path, group: ProcessGroup, batch_size: int) -> None:
    how = dict(RUNS[name])
    grow, resume, dtype = (how.pop(key, None) for key in ("grow", "resume", "dtype"))
    settings = replace(SETTINGS, batch_size=batch_size, num_processes=group.size, **how)
    base = load_base(base_path, device="cpu", dtype=dtype)
    network = base.family.build_network(
        base,
        method=settings.method,
        hint_channels=3,
        hint_encoder=settings.hint_encoder,
        hint_start=settings.hint_start,
        rank=settings.lora,
        seed=1,
    )
    if network.replaces_base:
        base = replace(base, denoiser=network)
    training = Training(
        base,
        network,
        Noise(settings.resolution),
        settings=settings,
        group=group,
        checkpoint=newest_checkpoint(out / resume) if resume else None,
    )
    losses = []
    for report in training.run():
        losses.append((report.loss, report.gradient_norm))
        if report.step == grow:
            training.accumulate_more(2)
    tensors = training.tensors()
    with training.averaged() as (base, network), group.raise_on_all():
        if group.main:
            save_checkpoint(out / name, training.step, tensors=tensors, state=training.state())
            (out / f"{name}.json").write_text(json.dumps(losses))
            weights = network.state_dict() | training.base_update(base)
            whole = {key: weight.detach().clone() for key, weight in weights.items()}
            save_file(whole, out / f"{name}.safetensors")


def main(base: str, out: str, batch_size: str, *names: str) -> None:
    torch.set_num_threads(1)
    load_deepspeed("cpu")
    with ProcessGroup("cpu") as group:
        for name in names:
            run(name, Path(base), Path(out), group, int(batch_size))
    # ZeRO's third stage keeps the group for good.
    if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") != "3":
        assert not threads_of_groups()


if __name__ == "__main__":
    main(*sys.argv[1:])
