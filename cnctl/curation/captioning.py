"""Captions for the images that have none, several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from cnctl.curation.assembling import Loaded
from cnctl.curation.outcome import Outcome
from cnctl.curation.rules.judge import judge_caption
from cnctl.curation.rules.subject import Judged
from cnctl.curation.sources.content import in_one_line
from cnctl.curation.tools import Tools

Entry = Loaded | Outcome


def caption(entries: Sequence[Entry], tools: Tools) -> list[Entry]:
    """The same, with captions; the outcome of an image whose caption does not meet the rule."""
    lacking = [e for e in entries if isinstance(e, Loaded) and not e.content.caption]
    if tools.caption is None or not lacking:
        return [*entries]
    resolution = tools.recipe.hints[0].resolution
    texts = tools.caption([one.images[resolution] for one in lacking])
    captions = {one.number: in_one_line(text) for one, text in zip(lacking, texts, strict=True)}
    return [
        _captioned(entry, captions[entry.number], tools)
        if isinstance(entry, Loaded) and entry.number in captions
        else entry
        for entry in entries
    ]


def _captioned(loaded: Loaded, text: str, tools: Tools) -> Entry:
    recipe = tools.recipe
    judged, source = judge_caption(text, recipe.bounds), PurePath(f"{recipe.captioner}").name
    numbers = {**loaded.judged.numbers, **judged.numbers}
    captioned = replace(
        loaded,
        content=loaded.content._replace(caption=text, caption_source=source),
        judged=Judged(numbers, (*loaded.judged.failed, *judged.failed)),
    )
    if judged.failed and not recipe.keep_all:
        return captioned.outcome(reason=judged.failed[0], perceptual_hash=None)
    return captioned
