"""A shard from its claim to its line in the manifest, in whatever process does it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from cnctl.curation.examples import ShardTask
from cnctl.curation.layout import CLAIMS, SPLITS, records_name, shard_name, temporary
from cnctl.curation.manifest import Manifest
from cnctl.curation.plan import Plan, read_plan, shard_rows
from cnctl.curation.published import remove
from cnctl.curation.reasons import Reason
from cnctl.curation.recipe import Recipe
from cnctl.curation.shard import ShardReport, make_shard
from cnctl.curation.tools import Tools
from cnctl.hints.detector import Detector
from cnctl.registry import get_condition
from cnctl.system.locks import Claims


class Workplace:
    """An output folder with its plan, as a process that makes shards has it open.

    tools: None in a process that lets others make them.
    """

    def __init__(self, out: Path, tools: Tools | None) -> None:
        plan = read_plan(out)
        assert plan is not None, "the plan is written before the work begins"
        self.out = out
        self.plan: Plan = plan
        self.tools = tools
        self.claims = Claims(out / CLAIMS)
        self.manifest = Manifest(out, self.claims)

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *_: object) -> None:
        self.claims.__exit__()

    def run(
        self,
        shard: int,
        *,
        killers: Mapping[int, Reason] | None = None,
        suspects: Collection[int] = (),
    ) -> ShardReport | None:
        """Make a shard, unless it is done; None where another process has claimed it."""
        assert self.tools is not None, "the detectors are in memory"
        if not self.claims.claim(shard):
            return None
        try:
            if done := self.manifest.find(shard):
                return done
            task = ShardTask(
                number=shard,
                first=self.plan.first_row(shard),
                rows=shard_rows(self.out, self.plan, shard),
                killers=killers or {},
                suspects=frozenset(suspects),
            )
            report = make_shard(task, self.tools, self.out)
            self.manifest.append(report)
            return report
        finally:
            self.claims.release(shard)

    def clean(self, shard: int) -> bool:
        """Remove what a killed process has left of a shard; False where another one is at it."""
        if not self.claims.claim(shard):
            return False
        form = self.plan.recipe.form
        for name in (*(shard_name(form, split, shard) for split in SPLITS), records_name(shard)):
            remove(temporary(self.out / name))
        self.claims.release(shard)
        return True


def load_tools(
    recipe: Recipe,
    *,
    device: str,
    commercial: bool | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Tools:
    """Load the detectors and the captioner of a recipe. device: such as "cuda:1"."""
    conditions = {hint.condition: get_condition(hint.condition) for hint in recipe.hints}
    detectors = {}
    if recipe.ground_truth is None:
        for name, condition in conditions.items():
            detectors[name] = Detector(condition, device=device, commercial=commercial).load()
    caption = None
    if recipe.captioner:
        from cnctl.hints.captioner import BLIP, load_captioner  # imports transformers: seconds

        source = None if recipe.captioner == BLIP.repo else recipe.captioner
        caption = load_captioner(source, device=device)
    return Tools(
        recipe=recipe,
        conditions=conditions,
        detectors=detectors,
        caption=caption,
        secrets=secrets or {},
    )
