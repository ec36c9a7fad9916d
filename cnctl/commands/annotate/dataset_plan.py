"""What `cnctl annotate --dataset` would do, without a detector in memory or a file written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnctl.commands.annotate.curate import plan_job
from cnctl.commands.annotate.dry_run import describe_weights
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.curation.recipe import HintRecipe
from cnctl.curation.run import Job, Outlook, look_ahead
from cnctl.errors import counted, shown
from cnctl.registry import get_condition


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What a run would make of how many inputs, and what is there already."""

    job: Job
    outlook: Outlook
    weights: Sequence[str]

    def lines(self) -> list[str]:
        """For people."""
        recipe, outlook = self.job.recipe, self.outlook
        hints = "read from maps" if recipe.ground_truth else "detected"
        return [
            f"inputs      {outlook.rows}",
            *(f"condition   {_describe(hint)}" for hint in recipe.hints),
            f"hints       {hints}",
            f"images      {_IMAGES[recipe.images]}",
            f"captions    {_captions(self.job)}",
            f"rules       {self._rules()}",
            *(f"weights     {line}" for line in self.weights),
            f"workers     {_workers(self.job)}",
            f"output      {shown(self.job.out)}: {self._output()}",
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "out": self.job.out,
            **asdict(self.outlook),
            "workers": len(self.job.devices),
            "weights": list(self.weights),
            "recipe": self.job.recipe.as_dict(),
        }

    def _rules(self) -> str:
        recipe = self.job.recipe
        bounds = {name: str(each) for name, each in recipe.bounds.items()}
        text = ", ".join(f"{name} {each}" for name, each in bounds.items() if each)
        return f"{text or 'none'}{'; all are kept' * recipe.keep_all}"

    def _output(self) -> str:
        recipe, outlook = self.job.recipe, self.outlook
        unit = "tar file" if recipe.form == "tar" else "folder"
        parts = [
            f"{counted(outlook.shards, unit)}, up to {counted(recipe.per_shard, 'input')} in each"
        ]
        parts += [f"{recipe.held_out:g} of the images held out"] * bool(recipe.held_out)
        parts += [f"subsets of {', '.join(map(str, recipe.subsets))}"] * bool(recipe.subsets)
        parts += [f"{outlook.done} there already"] * bool(outlook.done)
        return "; ".join(parts)


def plan_dataset(request: AnnotateRequest, *, note: Callable[[str], None]) -> DatasetPlan:
    """Return what `curate` would do; inputs are listed, and no image is read.

    Raises what the run would raise before it writes.
    """
    job = plan_job(request, note)
    return DatasetPlan(
        job=job,
        outlook=look_ahead(job),
        weights=[
            line
            for hint in job.recipe.hints
            if job.recipe.ground_truth is None
            for line in describe_weights(get_condition(hint.condition))
        ],
    )


_IMAGES = {
    "copy": "copied",
    "link": "linked to where they are",
    "resize": "resized to the size of their hints",
}


def _describe(hint: HintRecipe) -> str:
    options = [f"{name}={value}" for name, value in hint.options.items()]
    return ", ".join([hint.condition, f"resolution {hint.resolution}", *options])


def _captions(job: Job) -> str:
    recipe = job.recipe
    if recipe.captioner:
        return f"those of the inputs, else by {recipe.captioner}"
    given = "" if recipe.prompt is None else f", else {recipe.prompt!r}"
    return f"those of the inputs{given}"


def _workers(job: Job) -> str:
    if not job.devices:
        return "none, this process"
    return f"{len(job.devices)} on {', '.join(dict.fromkeys(job.devices))}"
