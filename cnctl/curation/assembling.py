"""One row: read, decoded and measured; and, once its hints are found, the files of its example."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.curation.drawn import rng_of, share_of
from cnctl.curation.layout import TRAIN, VALIDATION
from cnctl.curation.outcome import LeftOut, Outcome
from cnctl.curation.reasons import Reason
from cnctl.curation.recipe import HintRecipe, Recipe
from cnctl.curation.rows import Row
from cnctl.curation.rules.bounds import Bounds
from cnctl.curation.rules.general import perceptual_hash
from cnctl.curation.rules.judge import CAPTION, DUPLICATES, judge_hints, judge_image
from cnctl.curation.rules.subject import Found, Judged, Subject
from cnctl.curation.sources.content import Content
from cnctl.curation.sources.files import path_of
from cnctl.curation.sources.reading import read_row
from cnctl.curation.stored import Stored, store_image
from cnctl.curation.tools import Tools
from cnctl.errors import CnctlError, shown
from cnctl.hints.options import check_options
from cnctl.hints.run import draw_options
from cnctl.images import Picture, encode_hint, fit_image, hint_suffix, read_picture, working_size
from cnctl.plugin import Detection, OptionValue
from cnctl.system.lines import is_utf8


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A row that is decoded. size: (height, width). images: RGB uint8 (H, W, 3) by resolution.

    options: by condition.
    """

    number: int
    row: Row
    content: Content
    sha256: str
    size: tuple[int, int]
    frames: int
    images: Mapping[int, np.ndarray]
    options: Mapping[str, Mapping[str, OptionValue]]
    stored: Stored
    judged: Judged
    perceptual_hash: int | None

    def outcome(self, **values: Any) -> Outcome:
        """The outcome with what is known so far."""
        known = {
            "number": self.number,
            "row": self.row,
            "sha256": self.sha256,
            "frames": self.frames,
            "numbers": self.judged.numbers,
            "perceptual_hash": self.perceptual_hash,
            "caption_source": self.content.caption_source,
        }
        return Outcome(**{**known, **values})


def left_out(number: int, row: Row, why: LeftOut, **known: Any) -> Outcome:
    """The outcome of a row that gives no example."""
    return Outcome(number=number, row=row, reason=why.reason, error=why.error, **known)


def load_example(number: int, row: Row, tools: Tools) -> Loaded | Outcome:
    """Read and decode a row; the outcome where it cannot be, or a rule on images is not met."""
    recipe = tools.recipe
    try:
        content, picture = _read(row, recipe, tools.secrets)
        images = _at_working_size(picture.pixels, recipe)
    except LeftOut as why:
        return left_out(number, row, why)
    first = images[recipe.hints[0].resolution]
    subject = Subject(picture.pixels.shape[:2], first, content.caption)
    comes_later = {CAPTION: Bounds()} if recipe.captioner and not content.caption else {}
    judged = judge_image(subject, {**recipe.bounds, **comes_later})
    wants_hash = recipe.bounds[DUPLICATES].most is not None
    loaded = Loaded(
        number=number,
        row=row,
        content=content,
        sha256=hashlib.sha256(content.data).hexdigest(),
        size=subject.size,
        frames=picture.frames,
        images=images,
        options={hint.condition: _options(row, hint, tools) for hint in recipe.hints},
        stored=store_image(
            content.data, picture, images=recipe.images, image=first, path=path_of(row)
        ),
        judged=judged,
        perceptual_hash=perceptual_hash(subject) if wants_hash else None,
    )
    if judged.failed and not recipe.keep_all:
        return loaded.outcome(reason=judged.failed[0], perceptual_hash=None)
    return loaded


def finish_example(
    loaded: Loaded,
    results: Mapping[str, Detection | CnctlError | None],
    tools: Tools,
) -> Outcome:
    """The example of an image and what its detectors found, or why there is none."""
    recipe = tools.recipe
    hints: dict[str, Found] = {}
    for name, result in results.items():
        if isinstance(result, CnctlError):
            reason = Reason.UNREADABLE if recipe.ground_truth else Reason.DETECTOR_FAILED
            return _without_hash(loaded, LeftOut(reason, shown(str(result))))
        if result is None:
            return _without_hash(loaded, LeftOut(Reason.NOTHING_FOUND, f"by {name}"))
        hints[name] = Found(tools.conditions[name], result)
    judged = judge_hints(hints, recipe.bounds)
    numbers = {**loaded.judged.numbers, **judged.numbers}
    not_met = (*loaded.judged.failed, *judged.failed)
    if judged.failed and not recipe.keep_all:
        return loaded.outcome(reason=judged.failed[0], numbers=numbers, perceptual_hash=None)
    is_held_out = share_of(loaded.sha256) < recipe.held_out
    return loaded.outcome(
        numbers=numbers,
        not_met=not_met,
        split=VALIDATION if is_held_out else TRAIN,
        members=_members(loaded, hints, recipe),
    )


def _without_hash(loaded: Loaded, why: LeftOut) -> Outcome:
    return loaded.outcome(reason=why.reason, error=why.error, perceptual_hash=None)


def _read(row: Row, recipe: Recipe, secrets: Mapping[str, str]) -> tuple[Content, Picture]:
    try:
        content = read_row(row, secrets)
    except CnctlError as error:
        raise LeftOut(Reason.UNREADABLE, shown(str(error))) from error
    if not content.caption and recipe.prompt is not None:
        content = content._replace(caption=recipe.prompt, caption_source="--prompt")
    if not is_utf8(content.caption):
        raise LeftOut(Reason.UNREADABLE, "its caption is not UTF-8")
    try:
        return content, read_picture(content.data, name=shown(row.name))
    except CnctlError as error:
        raise LeftOut(Reason.UNDECODABLE, shown(str(error))) from error


def _at_working_size(picture: np.ndarray, recipe: Recipe) -> dict[int, np.ndarray]:
    resolutions = {hint.resolution for hint in recipe.hints}
    height, width = picture.shape[:2]
    try:
        sizes = {each: working_size(height, width, resolution=each) for each in resolutions}
    except CnctlError as error:
        raise LeftOut(Reason.ASPECT, shown(str(error))) from error
    return {each: fit_image(picture, size=size) for each, size in sizes.items()}


def _options(row: Row, hint: HintRecipe, tools: Tools) -> dict[str, OptionValue]:
    """All options of a condition for this image: those given, over those drawn for it."""
    condition = tools.conditions[hint.condition]
    drawn: Mapping[str, OptionValue] = {}
    if condition.options.keys() - hint.options.keys():
        drawn = draw_options(condition, rng_of(tools.recipe.seed, row.name))
    return check_options(condition, {**drawn, **hint.options})


def _members(loaded: Loaded, hints: Mapping[str, Found], recipe: Recipe) -> dict[str, bytes | Path]:
    """The files of an example by the ends of their names: image, hints and data, text, record."""
    members: dict[str, bytes | Path] = {loaded.stored.kind: loaded.stored.data}
    for name, found in hints.items():
        kind = "hint" if len(hints) == 1 else name
        suffix = hint_suffix(found.detection.hint.shape[2])
        members[kind + suffix] = encode_hint(found.stored, {})
        if found.data:
            members[f"{kind}.json"] = _json(found.data)
    members["txt"] = loaded.content.caption.encode()
    members["json"] = _json(_record(loaded, recipe))
    return members


def _record(loaded: Loaded, recipe: Recipe) -> dict[str, Any]:
    return {
        "source": shown(loaded.row.name),
        "source_sha256": loaded.sha256,
        "image": loaded.stored.how,
        "caption_source": loaded.content.caption_source,
        "hints": {
            hint.condition: {
                "options": loaded.options[hint.condition],
                "resolution": hint.resolution,
            }
            for hint in recipe.hints
        },
    }


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
