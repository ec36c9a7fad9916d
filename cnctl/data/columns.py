"""Which column, member of a shard or folder holds images, hints and prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from cnctl.data.problems import Problem
from cnctl.data.urls import is_url
from cnctl.errors import CnctlError, shown
from cnctl.images import SUFFIXES

FLAG = "--columns"
MANY = 20
"""Names that a message lists."""
HINT_SUFFIXES = {*SUFFIXES, ".npz"}


class Names(NamedTuple):
    """Names of image, hint and prompt, the preferred ones first."""

    image: tuple[str, ...]
    hint: tuple[str, ...]
    prompt: tuple[str, ...]

    def replaced(self, given: Mapping[str, str]) -> Names:
        """Return these names, with those that a user gives in their place."""
        return self._replace(**{role: (name,) if name else () for role, name in given.items()})


COLUMNS = Names(
    image=("image", "file_name", "image_file_name"),
    hint=("hint", "hint_file_name", "conditioning_image", "conditioning_image_file_name"),
    prompt=("prompt", "text", "caption"),
)
"""Columns: cnctl's, then those of Hugging Face's imagefolder."""
FOLDERS = Names(
    image=("image", "images"),
    hint=("hint", "hints", "conditioning", "conditioning_image", "conditioning_images"),
    prompt=("prompt", "prompts", "caption", "captions"),
)
"""Folders of files with equal names, in a shard or on disk."""


def parse_columns(text: str | None) -> dict[str, str]:
    """Return the names in "image=file,hint=control_image", by role; "hint=" is one without a name.

    Raises CnctlError where it is not of this form.
    """
    parts = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    given = {role.strip(): name.strip() for role, equals, name in parts if equals}
    if len(given) < len(parts) or not given.keys() <= {*Names._fields} or given.get("image") == "":
        raise CnctlError(
            f"{FLAG} {text}: it maps image, hint and prompt, each once, to a column",
            hint=f"for example {FLAG} image=file,hint=control_image,prompt=text",
        )
    return given


def check_given(given: Mapping[str, str], found: list[str], source: str) -> None:
    """Raise CnctlError where a name that the user gives is none of those that were found."""
    more = " and more" * (len(found) > MANY)
    for role, name in given.items():
        if name and name not in found:
            raise CnctlError(
                f"{FLAG} {role}={name}: {source} has no {name!r}",
                hint=f"it has {', '.join(map(shown, found[:MANY]))}{more}",
            )


def names_image(value: Any) -> bool:
    """Return whether a value seems to be an image: its file's name, or its content."""
    if isinstance(value, Mapping):
        return "bytes" in value or "path" in value
    if isinstance(value, bytes):
        return True
    is_file = isinstance(value, str) and not is_url(value)
    return is_file and PurePosixPath(value).suffix.lower() in HINT_SUFFIXES


def unread_hints(source: str, candidate: str, *, count: int, examples: int) -> Problem:
    """Return the problem of a candidate for the hints that `count` of the examples do not have."""
    hint = f"{FLAG} hint={candidate} reads it, {FLAG} hint= detects the hints"
    if count < examples:
        hint = f"add them, or name what holds the hints: {FLAG} hint=NAME; others are then detected"
    return Problem(
        source,
        f"{count} of {examples} examples have no hint, and {candidate!r}, which holds images, "
        "is not read",
        fatal=True,
        hint=hint,
    )


def unread_names(source: str, what: str, names: Iterable[str]) -> Iterator[Problem]:
    """Yield the problem of columns or members that are not read, if there are any."""
    if found := ", ".join(map(shown, names)):
        yield Problem(source, f"{what} that are not read: {found}", hint=f"{FLAG} maps them")
