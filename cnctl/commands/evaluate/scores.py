"""Scores of pictures: fidelity by the condition's metric, and what torchmetrics measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnctl.commands.evaluate.cases import Case, Cases, Output, read_output
from cnctl.commands.evaluate.result import Scored, ScoredSet
from cnctl.commands.shared import perceptual
from cnctl.commands.shared.events import Stage, ignore
from cnctl.hints.metrics import score
from cnctl.images import fit_hint, read_hint
from cnctl.plugin import Condition


@dataclass(frozen=True)
class Meters:
    """The networks of the metrics that are asked for."""

    metrics: Sequence[str]
    clip: perceptual.ClipScore | None
    network: perceptual.Embed | None


def open_meters(metrics: Sequence[str], *, clip_model: str | None, device: torch.device) -> Meters:
    """Load what "clip", "fid" and "kid" need; MissingError says how to get it."""
    perceptual.check_metrics(metrics)
    clip = perceptual.open_clip(clip_model, device=device) if "clip" in metrics else None
    by_features = {"fid", "kid"} & {*metrics}
    network = perceptual.open_inception(device=device) if by_features else None
    return Meters(metrics, clip, network)


def score_set(
    name: str,
    outputs: Sequence[Output],
    cases: Cases,
    condition: Condition,
    meters: Meters,
    *,
    on_event: Callable[[Stage], None] = ignore,
) -> ScoredSet:
    """The scores of the pictures of one set; on_event is called after each."""
    by_id = {case.id: case for case in cases.cases}
    ids = [*by_id]
    others = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    pictures = []
    for done, output in enumerate(outputs, 1):
        case, other = by_id[output.case], by_id[others[output.case]]
        pictures.append(_score(output, case, other, cases, condition, meters.clip))
        on_event(Stage(f"scoring {name}", done, len(outputs), "images"))
    return ScoredSet(name=name, pictures=pictures)


def add_distances(sets: Sequence[ScoredSet], cases: Cases, meters: Meters) -> list[ScoredSet]:
    """The sets with FID and KID between each and the photographs of its hints."""
    if meters.network is None or cases.photograph is None:
        return [*sets]
    real = perceptual.embed(map(cases.photograph, cases.cases), meters.network)
    found = []
    for one in sets:
        outputs = [Output(case=p.case, seed=p.seed, path=p.path) for p in one.pictures]
        pictures = (read_output(output, cases) for output in outputs)
        made = perceptual.embed(pictures, meters.network)
        found.append(_with_distances(one, real, made, meters.metrics))
    return found


def _with_distances(
    one: ScoredSet, real: Tensor, made: Tensor, metrics: Sequence[str]
) -> ScoredSet:
    return replace(
        one,
        fid=perceptual.frechet_distance(real, made) if "fid" in metrics else None,
        kid=perceptual.kernel_distance(real, made) if "kid" in metrics else None,
    )


def _score(
    output: Output,
    case: Case,
    other: Case,
    cases: Cases,
    condition: Condition,
    clip: perceptual.ClipScore | None,
) -> Scored:
    picture = read_output(output, cases)
    found = cases.detect(picture, case.options)

    def fidelity(to: Case) -> float:
        hint = read_hint(to.hint, channels=condition.stored_channels)
        size, palette = picture.shape[:2], bool(condition.palette)
        return score(condition.metric, fit_hint(hint, size=size, palette=palette), found)

    return Scored(
        case=case.id,
        seed=output.seed,
        path=output.path,
        fidelity=fidelity(case),
        chance=fidelity(other) if other is not case else None,
        clip=clip(picture, case.prompt) if clip else None,
    )
