"""The prompts of a run: the modes of section 4.1, prompts from a file, and an added prompt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cnctl.errors import CnctlError, shown
from cnctl.system.lines import decode, read_lines, split_lines
from cnctl.system.standard_streams import was_closed

DEFAULT_PROMPT = "a professional, detailed, high-quality image"
"""The paper's default prompt (section 4.1): it names nothing in the image.

A base that knows no such words may bring another, as `default_prompt` of its model_index.json.
"""


def choose_prompts(
    prompts: Sequence[str], mode: str | None, *, default: str = DEFAULT_PROMPT
) -> list[str]:
    """The prompts of a mode (section 4.1), one or more. default: the base's default prompt.

    Without a mode it is "user" where there are prompts and "default" where there are none.
    "automatic" begins with the default prompt; captions of the images replace it.
    """
    mode = mode or ("user" if prompts else "default")
    if mode == "user" and not prompts:
        raise CnctlError("--prompt-mode user needs a prompt", hint='give one: -p "a cat"')
    if mode != "user" and prompts:
        raise CnctlError(f"--prompt-mode {mode} takes no prompt", hint="leave out -p or the mode")
    return {"none": [""], "user": [*prompts]}.get(mode, [default])


def default_prompt(defaults: Mapping[str, Any]) -> str:
    """The default prompt of a base with these defaults."""
    return defaults.get("default_prompt", DEFAULT_PROMPT)


def gather_prompts(prompt: str | None, source: str | None) -> list[str]:
    """The prompts of `--prompt` and `--prompts`: one, those of a file, or none."""
    if prompt is not None and source is not None:
        raise CnctlError("--prompt and --prompts are both given", hint="leave one out")
    return read_prompts(source) if source is not None else [prompt] if prompt is not None else []


def read_prompts(source: str) -> list[str]:
    """The prompts in a text file, one per line, or of standard input for "-"."""
    lines = split_lines(_standard_input()) if source == "-" else read_lines(source)
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise CnctlError(f"{shown(source)} holds no prompt", hint="write one per line")
    return prompts


def _standard_input() -> str:
    if was_closed("stdin"):
        raise CnctlError("standard input is closed", hint="pipe prompts in, or name a file")
    return decode(sys.stdin.buffer.read(), "standard input")


def with_added(prompt: str, added: str) -> str:
    """A prompt and the text that is added to each, joined by a comma as in the original."""
    return ", ".join(filter(None, (prompt, added)))
