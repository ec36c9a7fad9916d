"""How the base's text encoders read the prompts of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cnctl.commands.generate.outputs import Task
from cnctl.models.base import Base
from cnctl.models.prompts import (
    PromptOptions,
    count_chunks,
    describe_length,
    precompute_prompts,
)
from cnctl.settings import GenerateSettings


def prompt_options(settings: GenerateSettings) -> PromptOptions:
    """How prompts are read with these settings."""
    return PromptOptions(emphasis=settings.emphasis, clip_skip=settings.clip_skip)


def prompt_chunks(base: Base, task: Task, settings: GenerateSettings) -> int:
    """The number of chunks that both prompts of an image are read in."""
    return count_chunks(base, *_prompts(task, settings), options=prompt_options(settings))


def note_long_prompts(
    base: Base, asked: Iterable[tuple[Task, GenerateSettings]], *, note: Callable[[str], None]
) -> None:
    """Report each prompt, also a negative one, that a text encoder does not read at once."""
    for prompt, options in dict.fromkeys(
        (prompt, prompt_options(settings))
        for task, settings in asked
        for prompt in _prompts(task, settings)
    ):
        if text := describe_length(base, prompt, options=options):
            note(text)


def precompute(base: Base, asked: Iterable[tuple[Task, GenerateSettings]]) -> Base:
    """The base with the prompts of all tasks encoded, and without its text encoders."""
    keys = set()
    for task, settings in asked:
        chunks, options = prompt_chunks(base, task, settings), prompt_options(settings)
        keys |= {(prompt, chunks, options) for prompt in _prompts(task, settings)}
    return precompute_prompts(base, keys)


def _prompts(task: Task, settings: GenerateSettings) -> list[str]:
    """The prompts that are read for one image: without guidance a negative one has no effect."""
    guided = settings.guidance_scale != 1
    return [task.prompt, *([task.negative_prompt] if guided else [])]
