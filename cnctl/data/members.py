"""The files in a shard, a plain tar file: what they are, where they lie, and how to get at them."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

from cnctl.errors import CnctlError
from cnctl.images import read_size

IMAGE = ("jpg", "jpeg", "png", "webp")
HINT = ("hint.png", "hint.npz")
PROMPT = ("txt", "json")
HEADER = 1 << 16
"""Bytes in which an image's size stands, but for rare ones."""
GAP = 1 << 18
"""Bytes that are sooner read along than left out: a request takes as long as some of them."""


class Member(NamedTuple):
    """A file in a shard. size: in bytes.

    pixels: (height, width) of an image where they have been looked up already.
    """

    name: str
    offset: int
    size: int
    pixels: tuple[int, int] | None = None

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.size


def list_members(file: BinaryIO, *, measure: bool) -> list[Member]:
    """All files in a shard, of which headers alone are read, and with `measure` those of images.

    Raises tarfile.TarError where it is no plain tar file, and what `file` raises.
    """
    members = []
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            if info.isfile():
                member = Member(info.name, info.offset_data, info.size)
                members.append(_measured(file, member) if measure else member)
    return members


def split_name(name: str) -> tuple[str, str]:
    """What comes before the first dot of a member's last part, and what comes after it."""
    path = PurePosixPath(name)
    stem, _, kind = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, kind.lower()


def read_members(read: Callable[[int, int], bytes], members: Sequence[Member]) -> list[bytes]:
    """Their bytes, each; those that lie close together are read in one piece.

    read: offset and size -> so many bytes of the shard.
    """
    found: dict[Member, bytes] = {}
    for run in _runs(members):
        start = run[0].offset
        data = read(start, run[-1].end - start)
        found |= {member: data[member.offset - start : member.end - start] for member in run}
    return [found[member] for member in members]


def _runs(members: Sequence[Member]) -> list[list[Member]]:
    runs: list[list[Member]] = []
    for member in sorted(members, key=lambda member: member.offset):
        if runs and member.offset - runs[-1][-1].end <= GAP:
            runs[-1].append(member)
        else:
            runs.append([member])
    return runs


def _measured(file: BinaryIO, member: Member) -> Member:
    """With the size in pixels, if it is an image and its header tells."""
    if split_name(member.name)[1] in IMAGE:
        file.seek(member.offset)
        header = file.read(min(HEADER, member.size))
        with contextlib.suppress(CnctlError):  # it will be told of when it is read
            return member._replace(pixels=read_size(header))
    return member
