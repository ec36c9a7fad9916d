"""The prompt modes of section 4.1."""

from __future__ import annotations

from cnctl.errors import CnctlError

DEFAULT_PROMPT = "a professional, detailed, high-quality image"
"""The paper's default prompt (section 4.1): it names nothing in the image."""


def choose_prompt(prompt: str | None, mode: str | None) -> str:
    """The text of a prompt mode (section 4.1): "none", "default" or "user".

    Without a mode it is "user" where a prompt is given and "default" where none is.
    """
    mode = mode or ("default" if prompt is None else "user")
    if mode not in ("none", "default", "user"):
        raise CnctlError(f"prompt mode {mode!r} is unknown", hint="use none, default or user")
    if mode == "user" and prompt is None:
        raise CnctlError("--prompt-mode user needs a prompt", hint='give one: -p "a cat"')
    if mode != "user" and prompt is not None:
        raise CnctlError(f"--prompt-mode {mode} takes no prompt", hint="leave out -p or the mode")
    return {"none": "", "default": DEFAULT_PROMPT, "user": prompt or ""}[mode]
