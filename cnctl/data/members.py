"""The files in a shard, an uncompressed tar file: list them, and read some of them."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from cnctl.errors import CnctlError, counted, shown
from cnctl.images import read_size

IMAGE = ("jpg", "jpeg", "png", "webp")
HEADER = 1 << 16
"""Bytes at the start of an image file that nearly always contain its size."""
GAP = 1 << 18
"""Gaps up to this many bytes are read too: that is faster than a second request."""


RECORD = 20 * tarfile.BLOCKSIZE
"""Bytes of zeros that the end of a shard is filled up to."""


class Member(NamedTuple):
    """A file in a shard. size: in bytes.

    pixels: (height, width) of an image where they are known.
    """

    name: str
    offset: int
    size: int
    pixels: tuple[int, int] | None = None

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + self.size


class Listing(NamedTuple):
    """The files in a shard. fault: why they are not all of it; "" where they are."""

    members: list[Member]
    fault: str = ""


def list_members(file: BinaryIO, *, measure: bool) -> Listing:
    """Return all files in a shard; only tar headers are read, and with `measure` image headers.

    Raises tarfile.TarError where it is not an uncompressed tar file, and what `file` raises.
    """
    members, others = [], []
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in _whole_headers(archive):
            if info.isfile() and not info.issparse():
                member = Member(info.name, info.offset_data, info.size)
                members.append(_measured(file, member) if measure else member)
            elif not info.isdir():
                others.append(info.name)
        fault = _fault_at_end(file, archive.offset)
    if members and members[-1].end > file.seek(0, os.SEEK_END):
        members.pop()
    if not fault and others:
        found = counted(len(others), "member")
        fault = f"links or sparse files: {found}, the first is {shown(others[0])}"
    return Listing(members, fault)


def _whole_headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members up to the first that cannot be read; raises where that is the first."""
    any_yet = False
    try:
        for info in archive:
            any_yet = True
            yield info
    except tarfile.ReadError:
        if not any_yet:
            raise


def _fault_at_end(file: BinaryIO, offset: int) -> str:
    """Return what is wrong where tarfile has found the last member's end; "" for an end mark."""
    file.seek(offset)
    end, rest = file.read(tarfile.BLOCKSIZE), file.read(RECORD)
    if offset > file.seek(0, os.SEEK_END):
        return "it is incomplete: its last member is cut off"
    if not end:
        return "it is incomplete: it has no end mark"
    if len(end) < tarfile.BLOCKSIZE:
        return "it is incomplete: it ends within a header"
    if any(end):
        return f"it is damaged: what follows byte {offset:,} is not a header"
    return "other data follow its end mark, and are not read" if any(rest) else ""


def split_name(name: str) -> tuple[str, str, str]:
    """Return a member's folder, the rest of its name up to the first dot, and what follows that."""
    folder, _, last = name.removeprefix("./").rpartition("/")
    stem, _, kind = last.partition(".")
    return folder, stem, kind.lower()


def read_members(read: Callable[[int, int], bytes], members: Sequence[Member]) -> list[bytes]:
    """Return the bytes of each member; neighbours are read in one request.

    read: (offset, size) -> that range of the shard.
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
    """Return the member with its size in pixels, if it is an image whose header can be read."""
    if split_name(member.name)[2] in IMAGE:
        file.seek(member.offset)
        header = file.read(min(HEADER, member.size))
        with contextlib.suppress(CnctlError):  # reported when the image is read
            return member._replace(pixels=read_size(header))
    return member
