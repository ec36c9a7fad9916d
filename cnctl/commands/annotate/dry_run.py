"""What `cnctl annotate` would do, without a detector in memory or a file written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnctl.commands.annotate.found import measure
from cnctl.commands.annotate.inputs import title
from cnctl.commands.annotate.plan import Plan, plan_images
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.runs import Run, named_conditions, plan_runs
from cnctl.commands.shared.events import FailedCondition, FailedImage
from cnctl.commands.shared.failures import FailedConditions, Failures
from cnctl.errors import CnctlError, shown
from cnctl.hints.files import describe, find_file
from cnctl.images import working_size
from cnctl.plugin import Condition


@dataclass(frozen=True, kw_only=True)
class AnnotatePlan:
    """Which hints a run would make, and at which sizes."""

    conditions: Sequence[Run]
    plans: Sequence[Plan]
    detected: bool
    sizes: Mapping[str, int]
    """How many hints have each size, "width x height"."""
    failed: Sequence[FailedImage]
    failed_conditions: Sequence[FailedCondition]

    @property
    def outputs(self) -> list[Path]:
        """Every file that the run names."""
        return [path for plan in self.plans for path in plan.outputs]

    @property
    def errors(self) -> list[str]:
        """Why conditions and images cannot be used."""
        return [
            *(failure.error for failure in self.failed_conditions),
            *(failure.error for failure in self.failed),
        ]

    def lines(self) -> list[str]:
        """For people."""
        hints = sum(len(plan.targets) for plan in self.plans)
        return [
            f"images      {len(self.plans)}",
            *(f"condition   {_describe_run(run)}" for run in self.conditions),
            f"hints       {hints} {'detected' if self.detected else 'read from maps'}",
            f"sizes       {', '.join(f'{count} of {size}' for size, count in self.sizes.items())}",
            *(f"weights     {line}" for line in self._weights()),
            f"outputs     {_describe_outputs(self.outputs)}",
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "images": len(self.plans),
            "conditions": [
                {"name": run.condition.name, "options": run.options, "resolution": run.resolution}
                for run in self.conditions
            ],
            "sizes": self.sizes,
            "weights": self._weights(),
            "outputs": [{"path": path, "exists": os.path.lexists(path)} for path in self.outputs],
        }

    def _weights(self) -> list[str]:
        return [line for run in self.conditions for line in describe_weights(run.condition)]


def plan_annotation(request: AnnotateRequest) -> AnnotatePlan:
    """Return what `annotate` would do; images are read as far as their sizes."""
    broken = FailedConditions(lambda failure: None, count=len(named_conditions(request)))
    runs = plan_runs(request, broken)
    plans = plan_images(request, runs)
    failures = Failures(lambda failure: None, alone=len(plans) == 1)
    sizes: Counter[str] = Counter()
    for plan in plans:
        with failures.of(plan.image.path, title=title(plan.image)):
            sizes.update(_sizes(plan))
    return AnnotatePlan(
        conditions=runs,
        plans=plans,
        detected=request.ground_truth is None,
        sizes=dict(sizes.most_common()),
        failed=failures.failed,
        failed_conditions=broken.failed,
    )


def _sizes(plan: Plan) -> list[str]:
    size = measure(plan.image)
    working = [working_size(*size, resolution=target.run.resolution) for target in plan.targets]
    return [f"{width} x {height}" for height, width in working]


def _describe_run(run: Run) -> str:
    options = [f"{name}={value}" for name, value in run.options.items()]
    return ", ".join([run.condition.name, f"resolution {run.resolution}", *options])


def describe_weights(condition: Condition) -> list[str]:
    """A line for each file of a detector: what it is, and where."""
    return [f"{describe(file)}: {_place(condition, file)}" for file in condition.files.values()]


def _place(condition: Condition, file: Any) -> str:
    try:
        found = find_file(file)
    except CnctlError as error:
        return str(error)
    return shown(found) if found else f"missing; cnctl models pull {condition.name}"


def _describe_outputs(outputs: Sequence[Path]) -> str:
    first = shown(outputs[0]) if outputs else "none"
    more = f" and {len(outputs) - 1} more" if len(outputs) > 1 else ""
    there = sum(map(os.path.lexists, outputs))
    return f"{first}{more}" + (f"; {there} there already" if there else "")
