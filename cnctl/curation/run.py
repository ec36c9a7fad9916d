"""Make a data set: the plan, the shards, and what is done once all shards are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cnctl.curation.choosing import choose_rows
from cnctl.curation.finish import finish, is_finished
from cnctl.curation.in_process import InProcess
from cnctl.curation.layout import CLAIMS, REPORT
from cnctl.curation.plan import Plan, check_recipe, check_rows, read_plan, write_plan
from cnctl.curation.progress import Meter, Progress, Tally, rows_in_work
from cnctl.curation.recipe import Recipe
from cnctl.curation.rows import Row
from cnctl.curation.shard import ShardReport
from cnctl.curation.sources.opening import Inputs, check_inputs, find_rows
from cnctl.curation.sources.tars import secret_urls
from cnctl.curation.statistics import Statistics
from cnctl.curation.work import Workplace, load_tools
from cnctl.curation.workers import Crew, Workers
from cnctl.errors import CnctlError, OutputError, shown, writing
from cnctl.system.cores import cores
from cnctl.system.locks import Claims

PLAN_LOCK = (1 << 60) + 1
PAUSE = 2.0
"""Seconds between two looks at shards that other runs have in work."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """inputs and recipe: what is made. devices: of the workers; () works in this process.
    engine: where the workers run, "processes" of this machine or "ray". image_timeout: of `Crew`.

    shards: the first and the last shard that this run makes; None for all.
    """

    out: Path
    inputs: Inputs
    recipe: Recipe
    devices: Sequence[str] = ()
    commercial: bool | None = None
    image_timeout: float = 0
    engine: str = "processes"
    shards: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """tally: of the shards of this job. left: how many shards of the plan are not done yet.

    was_done: whether there was nothing to do.
    """

    plan: Plan
    tally: Tally
    left: int
    was_done: bool


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a job would make: of how many rows how many shards, of which some are done."""

    rows: int
    shards: int
    done: int


WriteReport = Callable[[Plan, Statistics, Mapping[str, str]], None]
"""Writes the pages on a whole set, given URLs with credentials by their names without."""


def make_dataset(
    job: Job,
    *,
    on_progress: Callable[[Progress], None],
    write_report: WriteReport,
) -> Made:
    """Make the shards of a data set that are not there yet; the last run to do so finishes it.

    Raises OutputError where the output has another
    plan or cannot be written; whatever is raised, only whole shards are left.
    """
    secrets = _secrets(job)
    plan = _open_plan(job, secrets)
    with _workplace(job, secrets) as place:
        numbers = _numbers(job, plan)
        missing = _missing(place, numbers)
        if missing:
            if damaged := place.manifest.damaged():
                more = f" and {len(damaged) - 1} more" * (len(damaged) > 1)
                job.inputs.note(
                    f"{shown(job.out / damaged[0])}{more}: missing or changed; made again"
                )
            (job.out / REPORT).unlink(missing_ok=True)
            _Run(job, place, numbers, secrets, on_progress).make(missing)
        left = plan.shards - len(place.manifest.reports())
        was_done = not missing and (left > 0 or is_finished(job.out, plan))
        if not left:
            finish(
                place,
                lambda statistics: write_report(plan, statistics, secrets),
                processes=min(len(job.devices), cores()),
            )
        tally = _tally(place, numbers)
    return Made(plan=plan, tally=tally, left=left, was_done=was_done)


def look_ahead(job: Job) -> Outlook:
    """What `make_dataset` would do; nothing is written. Raises what it would raise before work."""
    secrets = _secrets(job)
    plan = None
    if job.out.exists():
        with writing(job.out):
            _refuse_other_files(job.out)
        plan = read_plan(job.out)
    if plan is None:
        rows = sum(1 for _ in _rows(job, secrets))
        return Outlook(rows=rows, shards=-(-rows // job.recipe.per_shard), done=0)
    check_recipe(job.out, plan, job.recipe)
    check_rows(job.out, _rows(job, secrets))
    with Workplace(job.out, None) as place:
        done = len(place.manifest.reports())
    return Outlook(rows=plan.rows, shards=plan.shards, done=done)


def _secrets(job: Job) -> dict[str, str]:
    return secret_urls([each for each in job.inputs.given if "://" in each])


def _open_plan(job: Job, secrets: Mapping[str, str]) -> Plan:
    """The plan of the output, which is written now if there is none.

    A run of some of the shards lists the inputs again only if the first is among them.
    """
    check_inputs(job.inputs)
    with writing(job.out):
        job.out.mkdir(parents=True, exist_ok=True)
        _refuse_other_files(job.out)
    with Claims(job.out / CLAIMS) as claims, claims.waiting_for(PLAN_LOCK):
        plan = read_plan(job.out)
        if plan is None:
            return write_plan(job.out, job.recipe, _rows(job, secrets))
        check_recipe(job.out, plan, job.recipe)
        if job.shards is None or job.shards[0] == 0:
            check_rows(job.out, _rows(job, secrets))
        return plan


def _refuse_other_files(out: Path) -> None:
    """Without a plan there must be nothing that this run could replace."""
    if read_plan(out) is None and any(not path.name.startswith(".") for path in out.iterdir()):
        raise OutputError(
            f"{shown(out)} holds other files than a data set of this version",
            hint="choose a new -o",
        )


def _rows(job: Job, secrets: Mapping[str, str]) -> Iterator[Row]:
    recipe = job.recipe
    if job.inputs.paths == "-" and (recipe.largest or recipe.sample):
        raise CnctlError("--largest and --sample read the list of inputs twice", hint="name a file")
    return choose_rows(
        lambda: find_rows(job.inputs, without=job.out.absolute()),
        largest=recipe.largest,
        sample=recipe.sample,
        seed=recipe.seed,
        secrets=secrets,
    )


def _numbers(job: Job, plan: Plan) -> range:
    if job.shards is None:
        return range(plan.shards)
    first, last = job.shards
    if not first <= last < plan.shards:
        raise CnctlError(
            f"--shard-range {first}-{last} of {plan.shards} shards",
            hint=f"the shards are 0 to {plan.shards - 1}",
        )
    return range(first, last + 1)


@contextmanager
def _workplace(job: Job, secrets: Mapping[str, str]) -> Iterator[Workplace]:
    """The output; with the detectors in memory where this process makes the shards."""
    own = None
    if not job.devices:
        own = load_tools(
            job.recipe, device=job.recipe.device, commercial=job.commercial, secrets=secrets
        )
    with Workplace(job.out, own) as place:
        yield place


def _missing(place: Workplace, numbers: range) -> list[int]:
    done = place.manifest.reports()
    return [number for number in numbers if number not in done]


def _tally(place: Workplace, numbers: range) -> Tally:
    tally = Tally()
    for number, report in place.manifest.reports().items():
        if number in numbers:
            tally.add(report)
    return tally


class Engine(Protocol):
    """What makes shards."""

    def make(self, shards: Sequence[int]) -> list[int]:
        """Make these shards, but for those that are returned: other runs have them in work."""


class _Run:
    """The making of missing shards, with its progress."""

    def __init__(
        self,
        job: Job,
        place: Workplace,
        numbers: range,
        secrets: Mapping[str, str],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._job, self._place, self._secrets = job, place, secrets
        self._on_progress = on_progress
        self._meter = Meter(
            _tally(place, numbers), total=sum(place.plan.count(number) for number in numbers)
        )

    def make(self, missing: Sequence[int]) -> None:
        """Make these shards, and wait for those that other runs have in work."""
        with self._engine() as engine:
            while missing:
                missing = self._free_at_last(engine.make(missing))

    def _engine(self) -> AbstractContextManager[Engine]:
        crew = Crew(
            devices=self._job.devices,
            commercial=self._job.commercial,
            secrets=self._secrets,
            image_timeout=self._job.image_timeout,
        )
        if self._job.engine == "ray":
            from cnctl.curation.ray_workers import RayWorkers  # an optional package

            return RayWorkers(self._place, crew, on_report=self._on_report)
        if crew.devices:
            return Workers(self._place, crew, on_report=self._on_report, on_rows=self._on_rows)
        return nullcontext(InProcess(self._place, on_report=self._on_report))

    def _free_at_last(self, claimed: Sequence[int]) -> list[int]:
        """Wait for other runs; return the shards that they have given up."""
        waiting = set(claimed)
        free: list[int] = []
        while waiting and not free:
            time.sleep(PAUSE)
            for number in sorted(waiting):
                if report := self._place.manifest.find(number):
                    self._on_report(report)
                    waiting.discard(number)
                elif self._place.claims.claim(number):
                    self._place.claims.release(number)
                    free.append(number)
        return sorted({*free, *waiting}) if free else []

    def _on_report(self, report: ShardReport) -> None:
        self._meter.tally.add(report)
        self._on_progress(self._meter.progress())

    def _on_rows(self, firsts: Mapping[int, int]) -> None:
        in_work = rows_in_work(firsts, self._job.recipe.per_shard)
        self._on_progress(self._meter.progress(in_work))
