"""`cnctl annotate --dataset`: inputs of any kind to a training set, a folder or in shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.runs import Run, check_ground_truth, plan_runs
from cnctl.commands.annotate.set_report import write_set_report
from cnctl.commands.shared.events import Note, ignore, notes
from cnctl.commands.shared.failures import FailedConditions
from cnctl.curation.layout import REPORT
from cnctl.curation.progress import Progress
from cnctl.curation.reasons import Reason
from cnctl.curation.recipe import HintRecipe, Images, Recipe
from cnctl.curation.rules.bounds import Bounds
from cnctl.curation.rules.judge import parse_rules
from cnctl.curation.run import Job, Made, make_dataset
from cnctl.curation.sources.opening import Inputs
from cnctl.curation.versions import installed
from cnctl.data.columns import parse_columns
from cnctl.errors import CnctlError, counted
from cnctl.hints.files import find_file, weights_in
from cnctl.hints.hub_models import BLIP
from cnctl.plugin import Condition
from cnctl.system.cores import cores
from cnctl.system.lines import as_text
from cnctl.tensorfiles.digest import known_sha256

BATCH = 4
"""Images that a detector sees at once on a GPU, unless `--batch-size` says how many."""
PER_FOLDER = 100
"""Inputs of a unit of work without --shards, whose files are in one folder."""
WORDS = "caption-words"

Event = Progress | Note


@dataclass(frozen=True, kw_only=True)
class CuratedSet:
    """A data set, or the part of it that this run was asked for.

    subsets: how many examples each has, by its size, once all shards are there.
    """

    out: Path
    made: Made
    subsets: Mapping[int, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many inputs are left out because something is wrong with them."""
        return self.made.tally.failed

    def lines(self) -> list[str]:
        """For people."""
        tally = self.made.tally
        left_out = f", {tally.left_out.total()} left out" if tally.left_out else ""
        reasons = f": {tally.reasons()}" if tally.left_out else ""
        return [
            f"{tally.done} of {tally.rows} images are in {self.out}{left_out}{reasons}",
            *([f"{counted(self.made.left, 'shard')} left to other runs"] if self.made.left else []),
        ]

    def notes(self) -> list[str]:
        """What to know of the inputs, for people."""
        tally, notes = self.made.tally, []
        if count := tally.several_frames:
            which = "1 image has" if count == 1 else f"{count} images have"
            notes.append(f"{which} several frames; the first is read")
        if count := tally.left_out[Reason.NO_CAPTION]:
            which = "1 image has" if count == 1 else f"{count} images have"
            notes.append(f"{which} no caption; --caption or --prompt gives one")
        for size, count in self.subsets.items():
            if count < size:
                notes.append(f"subsets/{size}.jsonl has all {count} examples, and not {size}")
        if self.made.was_done:
            notes.append("nothing was left to do")
        return notes

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        tally = self.made.tally
        return {
            "out": self.out,
            "rows": tally.rows,
            "done": tally.done,
            "left_out": dict(tally.left_out.most_common()),
            "several_frames": tally.several_frames,
            "shards": self.made.plan.shards,
            "shards_left": self.made.left,
            "was_done": self.made.was_done,
        }


def curate(request: AnnotateRequest, *, on_event: Callable[[Event], None] = ignore) -> CuratedSet:
    """Make a data set; what an earlier run of the same plan has made is kept.

    Every input is done or left out for a reason that is recorded. OutputError where the output has
    another plan; CnctlError where a condition cannot be used, for it is part of every example.
    """
    job = plan_job(request, notes(on_event))
    made = make_dataset(job, on_progress=on_event, write_report=partial(write_set_report, job.out))
    return CuratedSet(out=job.out, made=made, subsets=_subsets(job.out, made))


def _subsets(out: Path, made: Made) -> dict[int, int]:
    if made.left:
        return {}
    report = json.loads((out / REPORT).read_bytes())
    return {int(size): count for size, count in report["subsets"].items()}


def plan_job(request: AnnotateRequest, note: Callable[[str], None]) -> Job:
    """What is to be made, checked as far as it can be without reading an input."""
    _check(request)
    _check_caption(request)
    runs = plan_runs(request, FailedConditions(lambda failure: None, count=1))
    check_ground_truth(request, runs)
    kind, devices = _devices(request, runs)
    return Job(
        out=Path(request.out),
        inputs=_inputs(request, note),
        recipe=_recipe(request, runs, kind),
        devices=devices,
        commercial=request.commercial or None,
        image_timeout=request.image_timeout,
        engine=request.engine,
        shards=_range(request.shard_range),
    )


def _check(request: AnnotateRequest) -> None:
    """Refuse flags that contradict each other, before anything is read or written."""
    refused = {
        "--compare": request.compared,
        "--overwrite": request.overwrite,
        "-o -": request.out == "-",
    }
    if given := [flag for flag, is_given in refused.items() if is_given]:
        raise CnctlError(f"--dataset and {given[0]} cannot be combined", hint="leave one out")
    if request.shard_range is not None and request.shards is None:
        raise CnctlError("--shard-range belongs to --shards", hint="add --shards 1000")
    if request.images == "link" and request.shards is not None:
        raise CnctlError("tar files hold no links", hint="leave out --shards, or --images link")
    if request.workers == 0 and request.given(["image_timeout"]):
        raise CnctlError("--image-timeout is for workers", hint="leave out --workers 0")
    if not request.inputs and not request.paths:
        raise CnctlError("no input is named", hint="give folders, files, or --paths FILE")
    if "-" in map(str, request.inputs):
        raise CnctlError("- is an image on standard input", hint="--paths - reads names there")


def _inputs(request: AnnotateRequest, note: Callable[[str], None]) -> Inputs:
    return Inputs(
        given=[str(item) for item in request.inputs],
        paths=request.paths or "",
        columns=parse_columns(request.columns),
        every=request.every,
        note=note,
    )


def _recipe(request: AnnotateRequest, runs: Sequence[Run], kind: str) -> Recipe:
    bounds = parse_rules(request.rules)
    if request.prompt == "" and not any(text.startswith(WORDS) for text in request.rules):
        bounds[WORDS] = Bounds()  # an empty prompt is asked for
    return Recipe(
        hints=tuple(_hint(run, is_detected=request.ground_truth is None) for run in runs),
        per_shard=request.shards or PER_FOLDER,
        form="tar" if request.shards else "folder",
        images=cast(Images, request.images),
        prompt=None if request.prompt is None else as_text(request.prompt, "--prompt"),
        captioner=(request.captioner or BLIP.repo) if request.caption else None,
        captioner_sha256=_captioner_sha256(request) if request.caption else "",
        ground_truth=None if request.ground_truth is None else str(request.ground_truth),
        seed=request.seed,
        held_out=request.held_out,
        bounds=bounds,
        keep_all=request.keep_all,
        subsets=tuple(int(text) for text in (request.subsets or "").split(",") if text),
        largest=request.largest,
        sample=request.sample,
        every=request.every,
        batch=request.batch_size or (1 if kind == "cpu" else BATCH),
        device=kind,
        versions=installed(_detecting(request, runs), captions=request.caption),
    )


def _check_caption(request: AnnotateRequest) -> None:
    if request.captioner is not None and not request.caption:
        raise CnctlError("--captioner is for --caption", hint="add --caption")
    if request.caption and request.prompt is not None:
        raise CnctlError("--caption and --prompt are for the same images", hint="leave one out")


def _captioner_sha256(request: AnnotateRequest) -> str:
    """Of all files of weights; MissingError where the captioner is not installed."""
    from cnctl.hints.captioner import find_captioner  # imports transformers, which takes seconds

    folder = find_captioner(request.captioner)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CnctlError(f"{folder} holds no weights", hint=f"give a captioner such as {BLIP.repo}")
    return " ".join(map(known_sha256, files))


def _detecting(request: AnnotateRequest, runs: Sequence[Run]) -> list[Condition]:
    """The conditions whose detectors run."""
    return [] if request.ground_truth is not None else [run.condition for run in runs]


def _hint(run: Run, *, is_detected: bool) -> HintRecipe:
    return HintRecipe(
        condition=run.condition.name,
        options=dict(run.options),
        resolution=run.resolution,
        weights=_weights(run.condition) if is_detected else {},
    )


def _weights(condition: Condition) -> dict[str, str]:
    """The sha256 of each file of a detector, "" where it is not installed."""
    found = {key: find_file(file) for key, file in condition.files.items()}
    return {key: known_sha256(weights_in(path)) if path else "" for key, path in found.items()}


def _devices(request: AnnotateRequest, runs: Sequence[Run]) -> tuple[str, list[str]]:
    """The kind of device, and a device for each worker: one worker per GPU, or per core."""
    if request.engine == "ray" and request.workers == 0:
        raise CnctlError("--workers 0 is this process, not Ray", hint="leave one out")
    has_network = any(condition.files for condition in _detecting(request, runs))
    needs_none = not (request.caption or has_network)
    if request.device in (None, "cpu") and needs_none:
        return "cpu", _per_worker(request, "cpu", ["cpu"] * cores())
    if request.engine == "ray" and request.device == "cuda":  # this machine may have no GPU
        return "cuda", _per_worker(request, "cuda", ["cuda"])
    from cnctl.models.device import pick_device  # imports torch, which takes seconds

    device = pick_device(request.device)
    if device.type != "cuda":
        return device.type, _per_worker(request, device.type, [device.type] * cores())
    import torch

    count = torch.cuda.device_count()
    gpus = [str(device)] if device.index is not None else [f"cuda:{n}" for n in range(count)]
    return "cuda", _per_worker(request, "cuda", gpus)


def _per_worker(request: AnnotateRequest, kind: str, devices: Sequence[str]) -> list[str]:
    """A device for each worker: `--workers` of them, else one per device; devices repeat."""
    count = len(devices)
    if request.workers is not None:
        count = request.workers
    elif request.engine == "ray":
        from cnctl.curation.ray_workers import cluster_size  # an optional package

        count = cluster_size(kind)
    return [devices[number % len(devices)] for number in range(count)]


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    return int(first), int(last)
