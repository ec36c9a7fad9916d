"""Pairs in WebDataset shards: tar files whose members of one name form an example.

`0001.jpg`, `0001.hint.png` and `0001.txt` are the image, the hint and the prompt of one example.
Shards are uncompressed tar files, local or remote, so that any member can be read by its offset:
examples are shuffled over all shards, each process reads only its own, and a run resumes exactly as
it does on a folder.
"""

from __future__ import annotations

import glob
import hashlib
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from cnctl.data.braces import expand_braces
from cnctl.data.examples import Example
from cnctl.data.kept_indexes import is_kept, keep_index
from cnctl.data.members import (
    HEADER,
    HINT,
    IMAGE,
    PROMPT,
    Member,
    list_members,
    read_members,
    split_name,
)
from cnctl.data.remote import RemoteShard, find_remote, in_threads
from cnctl.data.urls import is_url, without_credentials
from cnctl.errors import CnctlError, reading, shown
from cnctl.images import read_image, read_size

PROMPT_KEYS = ("prompt", "text", "caption")


class Shard(Protocol):
    """A tar file, local or remote."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    @property
    def file_name(self) -> str:
        """The last part of its name."""

    @property
    def version(self) -> str:
        """Changes with its content; "" where that is not known."""

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of it; CnctlError where it is too short or cannot be read."""

    def open(self) -> BinaryIO:
        """Open it as a file, to read headers."""


@dataclass(frozen=True)
class LocalShard:
    """A shard on this machine."""

    path: Path

    version = ""

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.name

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of it."""
        with reading(self.path), self.path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise CnctlError(f"{shown(self.path)} has been cut off", hint="copy it again")
        return data

    def open(self) -> BinaryIO:
        """Open the file."""
        return self.path.open("rb")


@dataclass(frozen=True)
class Sample:
    """The members of one example. key: what their names have in common.

    prompt_kind: "txt", "json", or "" for none.
    """

    key: str
    shard: Shard
    image: Member
    hint: Member | None
    prompt: Member | None
    prompt_kind: str

    @property
    def name(self) -> str:
        """The shard and the key in it."""
        return f"{shown(self.shard.name)}/{shown(self.key)}"

    def read(self) -> tuple[bytes, bytes | None, bytes | None]:
        """Return the bytes of image, hint and prompt; neighbours are read in one request."""
        parts = [part for part in (self.image, self.hint, self.prompt) if part]
        found = dict(zip(parts, read_members(self.shard.read, parts), strict=True))
        hint, prompt = (part and found[part] for part in (self.hint, self.prompt))
        return found[self.image], hint, prompt


@dataclass(frozen=True)
class ShardDataset:
    """Pairs in shards. read_hint: the bytes of a hint's file -> (H, W, C)."""

    rows: tuple[Sample, ...]
    read_hint: Callable[[bytes], np.ndarray]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names and sizes of members and versions of shards; no member is read."""
        found = hashlib.sha256()
        for row in self.rows:
            parts = [part and part.size for part in (row.image, row.hint, row.prompt)]
            line = f"{row.name} {parts}{row.shard.version}\n"
            found.update(line.encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    @property
    def ready_hints(self) -> int:
        """How many examples include a hint."""
        return sum(row.hint is not None for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        image, hint, prompt = row.read()
        ready = None if hint is None else self.read_hint(hint)
        return Example(read_image(image), ready, _prompt(row, prompt))

    def name(self, index: int) -> str:
        """Return the shard and the example's key in it."""
        return self.rows[index].name

    def key(self, index: int) -> str:
        """Return the shard's file name and the key, which do not depend on where the shards are."""
        row = self.rows[index]
        return f"{row.shard.file_name}/{row.key}"

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of the image, which is not decoded."""
        shard, image = self.rows[index].shard, self.rows[index].image
        if image.pixels:
            return image.pixels
        header = shard.read(image.offset, min(HEADER, image.size))
        try:
            return read_size(header)
        except CnctlError:  # a large preview may come before it
            return read_size(shard.read(image.offset, image.size))

    def take(self, indices: Sequence[int]) -> ShardDataset:
        """Return a data set of these examples alone, numbered from 0."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))


def open_shards(
    pattern: str,
    *,
    read_hint: Callable[[bytes], np.ndarray],
    note: Callable[[str], None] = lambda text: None,
) -> ShardDataset:
    """Open the shards that a path or URL with globs or braces names, sorted by name.

    Only headers are read; those of remote shards are cached.
    """
    shards = _open_remote(pattern, note) if is_url(pattern) else _open_local(pattern)
    rows = [sample for shard, members in shards for sample in _samples(shard, members)]
    if not rows:
        raise CnctlError(
            f"--data {shown(without_credentials(pattern))} holds no images",
            hint="members are named 0001.jpg, 0001.hint.png and 0001.txt",
        )
    return ShardDataset(rows=tuple(rows), read_hint=read_hint)


def _open_local(pattern: str) -> Iterator[tuple[Shard, list[Member]]]:
    paths = {path for part in expand_braces(pattern) for path in _matches(part)}
    for path in sorted(paths):
        shard = LocalShard(Path(path))
        yield shard, _list(shard, measure=False)


def _matches(pattern: str) -> list[str]:
    paths = glob.glob(pattern, recursive=True)
    if not paths:
        raise CnctlError(
            f"--data {shown(pattern)}: no such shard", hint="give for example 'data/*.tar'"
        )
    return paths


def _open_remote(pattern: str, note: Callable[[str], None]) -> Iterator[tuple[Shard, list[Member]]]:
    shards = find_remote(pattern)
    new = [shard for shard in shards if not is_kept(shard.identity)]
    if new:
        size = sum(shard.size for shard in new) / 1e6
        note(f"reading the headers of {len(new)} shards ({size:,.0f} MB) into the cache")
    # Processes that start together begin with different ones, and find the others in the cache.
    shuffled = random.Random().sample(shards, len(shards))
    members = dict(zip(shuffled, in_threads(_list_once, shuffled), strict=True))
    return ((shard, members[shard]) for shard in shards)


def _list_once(shard: RemoteShard) -> list[Member]:
    """Return its members with the sizes of images, which are read with the other headers."""
    return keep_index(shard.identity, lambda: _list(shard, measure=True))


def _list(shard: Shard, *, measure: bool) -> list[Member]:
    try:
        with shard.open() as file:
            return list_members(file, measure=measure)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CnctlError(
            f"{shown(shard.name)} is not an uncompressed tar file, or it is damaged: {error}",
            hint="copy it again, or decompress it",
        ) from error


def _samples(shard: Shard, members: Sequence[Member]) -> Iterator[Sample]:
    """Yield the examples of a shard; members without an image are skipped."""
    parts: dict[str, dict[str, Member]] = {}
    for member in members:
        key, kind = split_name(member.name)
        parts.setdefault(key, {})[kind] = member
    for key, kinds in parts.items():
        image, hint, prompt = (_first(kinds, names) for names in (IMAGE, HINT, PROMPT))
        if image:
            yield Sample(
                key=key,
                shard=shard,
                image=kinds[image],
                hint=kinds.get(hint),
                prompt=kinds.get(prompt),
                prompt_kind=prompt,
            )


def _first(kinds: dict[str, Member], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in kinds), "")


def _prompt(row: Sample, data: bytes | None) -> str:
    if data is None:
        return ""
    text = data.decode("utf-8", "replace")
    if row.prompt_kind == "txt":
        return text.strip()
    try:
        entry = json.loads(text)
    except json.JSONDecodeError as error:
        raise CnctlError(f"{row.name}.json is not JSON: {error.msg}", hint="fix it") from error
    values = [entry.get(key) for key in PROMPT_KEYS] if isinstance(entry, dict) else []
    return next((value for value in values if isinstance(value, str)), "")
