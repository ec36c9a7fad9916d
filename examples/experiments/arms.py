"""Arms of an experiment: training runs that differ in one thing, and what is measured of them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cnctl import EvaluateRequest, InitRequest, TrainRequest, evaluate, init_from_base, train
from cnctl.commands.evaluate.result import Evaluation
from cnctl.images import read_image
from cnctl.tiny import WEIGHTS
from cnctl.tiny.captioner import SceneCaptioner
from cnctl.tiny.scenes import render_scene
from cnctl.training.checkpoints import newest_checkpoint
from cnctl.training.run_folder import CHECKPOINTS, LOG

SCENES = "scenes:50000"
RATE = 2e-3
DENOISING_STEPS = 8
FILE = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Arm:
    """What differs from one line of a table to the next.

    phases: share of the steps -> settings of `train` until there. data: "" for `SCENES`. start:
    what makes the weights that a run starts from.
    """

    name: str
    phases: Mapping[float, Mapping[str, Any]]
    data: str = ""
    start: Callable[[Run], Path] = lambda run: fresh_links(run)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm with one seed. The fields below are the arguments of the command."""

    arm: Arm
    seed: int
    out: Path
    base: str
    copy: str
    steps: int
    batch_size: int
    scenes: int

    @property
    def folder(self) -> Path:
        """Named by all that a run depends on, so that claims share it and changes do not."""
        of = f"{self.copy or 'base'}-{self.steps}x{self.batch_size}"
        return self.out / "runs" / of / f"{self.arm.name.replace(' ', '-')}-{self.seed}"

    def train(self) -> None:
        """Train, or continue, until each phase has ended."""
        saved = newest_checkpoint(self.folder / CHECKPOINTS)
        for share, settings in self.arm.phases.items():
            steps = round(share * self.steps)
            if saved is None or saved.step < steps:
                print(f"{self.folder.name}: to step {steps}", file=sys.stderr, flush=True)
                train(self._request(steps, settings), self.folder, resume=True)

    def _request(self, steps: int, settings: Mapping[str, Any]) -> TrainRequest:
        shared = {
            "steps": steps,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "learning_rate": RATE,
            "preview_every": 0,
        }
        return TrainRequest(
            condition="canny",
            data=self.arm.data or SCENES,
            base=self.base,
            init_from=str(self.arm.start(self)),
            cache=str(self.out / "cache"),
            settings=shared | dict(settings),
        )

    def evaluate(self, folder: str = "evaluation", **changes: Any) -> Evaluation:
        """Outputs from held-out scenes; changes: of the request."""
        settings = {"steps": DENOISING_STEPS, **changes.pop("settings", {})}
        asked = {"data": f"scenes:{self.scenes}", "weights": [str(self.folder)], **changes}
        out = self.folder / folder
        return evaluate(
            EvaluateRequest(
                condition="canny", base=self.base, out=out, resume=True, settings=settings, **asked
            )
        )

    def without_prompt(self) -> Evaluation:
        """Outputs from the same hints, with empty prompts, where guidance would change nothing."""
        hints = str(self.evaluate().folder / "hints")
        hints_alone = {"data": hints, "ready_hint": True, "prompt": ""}
        return self.evaluate("without-prompt", settings={"guidance_scale": 1.0}, **hints_alone)

    def without_control(self) -> Evaluation:
        """Outputs from the same prompts, by the base as the run leaves it."""
        return self.evaluate("without-control", settings={"control_scale": 0.0})

    def before(self) -> Evaluation:
        """Outputs with the weights that the run starts from."""
        return self.evaluate("before", weights=[str(self.arm.start(self))])

    def log(self, event: str) -> list[dict[str, Any]]:
        """The entries of this event in the run's log."""
        entries = map(json.loads, (self.folder / LOG).read_text().splitlines())
        return [entry for entry in entries if entry["event"] == event]


def fresh_links(run: Run, *, gaussian: bool = False) -> Path:
    """Weights to start from, whose links to the base, the zero convolutions, have learnt nothing.

    All others are the base's own or, with run.copy, those of its ControlNet of this name, which
    then obeys after fewer steps. gaussian: the links are not zero.
    """
    links = "gaussian" if gaussian else "zero"
    target = run.out / "starts" / f"{links}-{run.copy or 'base'}-{run.seed}"
    if target.exists():
        return target
    new = target.with_name("new")
    shutil.rmtree(new, ignore_errors=True)
    init_from_base(InitRequest(base=run.base, target=new, condition="canny", seed=run.seed))
    names = link_names(load_file(new / FILE))
    if run.copy:
        shutil.copytree(WEIGHTS / "controls" / run.copy, new, dirs_exist_ok=True)
    tensors = load_file(new / FILE)
    reset(tensors, names, seed=run.seed if gaussian else None)
    save_file(tensors, new / FILE)
    return new.rename(target)


def link_names(untrained: Mapping[str, Tensor]) -> list[str]:
    """The layers whose weights are zero before any training."""
    return [
        name.removesuffix(".weight")
        for name, tensor in untrained.items()
        if tensor.ndim > 1 and not tensor.any()
    ]


def reset(tensors: Mapping[str, Tensor], layers: Iterable[str], *, seed: int | None) -> None:
    """Set layers to zero or, with a seed, to Gaussian weights that keep the variance they read."""
    generator = torch.Generator().manual_seed(seed or 0)
    for layer in layers:
        weight = tensors[f"{layer}.weight"]
        std = 0.0 if seed is None else weight[0].numel() ** -0.5
        weight.normal_(std=std, generator=generator)
        tensors[f"{layer}.bias"].zero_()


def f1(found: Evaluation) -> float:
    """F1 of the hints' edges in the outputs."""
    return found.intervals["fidelity"][found.sets[0].name].mean


def right_class(found: Evaluation) -> float:
    """The share of outputs in which the base's captioner sees the class that the scene shows."""
    titles = {case.id: case.title for case in found.cases}
    return fmean(
        seen_class(picture.path) in shown_classes(titles[picture.case])
        for picture in found.sets[0].pictures
    )


def seen_class(picture: Path) -> str:
    """The caption is "a COLOUR CLASS on ..."."""
    return load_captioner().caption(read_image(picture)).split()[2]


@cache
def load_captioner() -> SceneCaptioner:
    return SceneCaptioner.from_pretrained(WEIGHTS / "captioner")


def shown_classes(title: str) -> set[str]:
    """The title of a case ends with the seed of its scene."""
    return {thing.name for thing in render_scene(int(re.findall(r"\d+", title)[-1])).objects}


def first_loss(run: Run) -> float:
    return run.log("step")[0]["loss"]


def last_loss(run: Run) -> float:
    """The mean training loss of the last quarter of the steps."""
    return fmean(entry["loss"] for entry in run.log("step")[-max(run.steps // 4, 1) :])


def seconds(run: Run) -> float:
    """The median time of a step in the first half."""
    steps = run.log("step")
    return median(entry["seconds"] for entry in steps[: max(len(steps) // 2, 1)])
