"""How the base's text encoders read the prompts of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cnctl.commands.generate.outputs import Task
from cnctl.models.base import Base
from cnctl.models.prompts import PromptOptions, chunk_size, count_chunks, precompute_prompts
from cnctl.settings import GenerateSettings


def prompt_options(settings: GenerateSettings) -> PromptOptions:
    """How prompts are read with these settings."""
    return PromptOptions(emphasis=settings.emphasis, clip_skip=settings.clip_skip)


def prompt_chunks(base: Base, task: Task, settings: GenerateSettings) -> int:
    """The number of chunks that both prompts of an image are read in."""
    return count_chunks(base, *_prompts(task, settings), options=prompt_options(settings))


def note_long_prompts(
    base: Base, prompts: Iterable[str], options: PromptOptions, *, note: Callable[[str], None]
) -> None:
    """Report each prompt that does not fit into one chunk."""
    for prompt in prompts:
        chunks = count_chunks(base, prompt, options=options)
        if chunks > 1:
            size = chunk_size(base)
            note(f"the prompt is long: {base.name} reads it in {chunks} parts of {size} tokens")


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
