"""Pairs in WebDataset shards: tar files whose members of one name belong together.

`0001.jpg`, `0001.hint.png` and `0001.txt` are the image, the hint and the prompt of one example.
Shards lie on this machine and are plain tar files, so that any member can be read where it lies:
examples are shuffled over all shards, and a run resumes exactly as it does on a folder.
"""

from __future__ import annotations

import glob
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from cnctl.dataset.examples import Example
from cnctl.errors import CnctlError, shown
from cnctl.images import read_image, read_size

IMAGE = ("jpg", "jpeg", "png", "webp")
HINT = ("hint.png", "hint.npz")
PROMPT = ("txt", "json")
HEADER = 1 << 16
"""Bytes in which an image's size stands, but for rare ones."""
PROMPT_KEYS = ("prompt", "text", "caption")


@dataclass(frozen=True)
class Member:
    """A file in a shard."""

    shard: Path
    offset: int
    size: int

    def read(self, most: int | None = None) -> bytes:
        """All of it, or its first bytes; CnctlError where the shard is cut or cannot be read."""
        wanted = self.size if most is None else min(most, self.size)
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(wanted)
        except OSError as error:
            raise CnctlError(f"{shown(self.shard)} cannot be read: {error.strerror}") from error
        if len(data) < wanted:
            raise CnctlError(f"{shown(self.shard)} has been cut off", hint="copy it again")
        return data


@dataclass(frozen=True)
class Sample:
    """Where the parts of one example lie. key: what their names have in common.

    prompt_kind: "txt", "json", or "" for none.
    """

    key: str
    image: Member
    hint: Member | None
    prompt: Member | None
    prompt_kind: str

    @property
    def name(self) -> str:
        """The shard and the key in it."""
        return f"{shown(self.image.shard)}/{shown(self.key)}"


@dataclass(frozen=True)
class ShardDataset:
    """Pairs that lie in shards. read_hint: the bytes of a hint's file -> (H, W, C)."""

    rows: tuple[Sample, ...]
    read_hint: Callable[[bytes], np.ndarray]

    @cached_property
    def fingerprint(self) -> str:
        """Of names and sizes of all parts; the parts themselves are not read."""
        found = hashlib.sha256()
        for row in self.rows:
            parts = [part and part.size for part in (row.image, row.hint, row.prompt)]
            found.update(f"{row.name} {parts}\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    @property
    def ready_hints(self) -> int:
        """How many examples have a hint beside them."""
        return sum(row.hint is not None for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        hint = self.read_hint(row.hint.read()) if row.hint else None
        return Example(read_image(row.image.read()), hint, _prompt(row))

    def name(self, index: int) -> str:
        """The shard and the example's key in it."""
        return self.rows[index].name

    def key(self, index: int) -> str:
        """The shard's file name and the key in it: the same wherever the shards lie."""
        row = self.rows[index]
        return f"{row.image.shard.name}/{row.key}"

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image, which is not decoded."""
        image = self.rows[index].image
        try:
            return read_size(image.read(HEADER))
        except CnctlError:  # a large preview may come before it
            return read_size(image.read())

    def take(self, indices: Sequence[int]) -> ShardDataset:
        """These examples alone, numbered anew."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))


def open_shards(pattern: str, *, read_hint: Callable[[bytes], np.ndarray]) -> ShardDataset:
    """Open the shards that a glob names, in the order of their names; only headers are read."""
    shards = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    if not shards:
        raise CnctlError(
            f"--data {shown(pattern)}: no such shard", hint="give for example 'data/*.tar'"
        )
    rows = [sample for shard in shards for sample in _read_index(shard)]
    if not rows:
        raise CnctlError(
            f"--data {shown(pattern)} holds no images",
            hint="members are named 0001.jpg, 0001.hint.png and 0001.txt",
        )
    return ShardDataset(rows=tuple(rows), read_hint=read_hint)


def _read_index(shard: Path) -> Iterator[Sample]:
    """The examples of a shard; members that belong to no image are passed over."""
    parts: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for info in archive:
                if info.isfile():
                    key, kind = _split(info.name)
                    parts.setdefault(key, {})[kind] = Member(shard, info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CnctlError(
            f"{shown(shard)} is no plain tar file, or a damaged one: {error}",
            hint="copy it again; a compressed one is to be unpacked first",
        ) from error
    for key, kinds in parts.items():
        image, hint, prompt = (_first(kinds, names) for names in (IMAGE, HINT, PROMPT))
        if image:
            yield Sample(
                key=key,
                image=kinds[image],
                hint=kinds.get(hint),
                prompt=kinds.get(prompt),
                prompt_kind=prompt,
            )


def _split(name: str) -> tuple[str, str]:
    """What comes before the first dot of a member's last part, and what comes after it."""
    path = PurePosixPath(name)
    stem, _, kind = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, kind.lower()


def _first(kinds: dict[str, Member], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in kinds), "")


def _prompt(row: Sample) -> str:
    if row.prompt is None:
        return ""
    text = row.prompt.read().decode("utf-8", "replace")
    if row.prompt_kind == "txt":
        return text.strip()
    try:
        entry = json.loads(text)
    except json.JSONDecodeError as error:
        raise CnctlError(f"{row.name}.json is not JSON: {error.msg}", hint="mend it") from error
    values = [entry.get(key) for key in PROMPT_KEYS] if isinstance(entry, dict) else []
    return next((value for value in values if isinstance(value, str)), "")
