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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cnctl.data.braces import expand_braces
from cnctl.data.columns import COLUMNS, FLAG, check_given
from cnctl.data.examples import Example
from cnctl.data.kept_indexes import is_kept, keep_index
from cnctl.data.local import LocalShard, Shard
from cnctl.data.members import HEADER, Listing, Member, list_members, read_members
from cnctl.data.problems import Problem, refuse_fatal
from cnctl.data.remote import RemoteShard, find_remote, in_threads
from cnctl.data.samples import Grouped, group, names_of
from cnctl.data.shard_problems import find_problems
from cnctl.data.urls import is_url, without_credentials
from cnctl.errors import CnctlError, counted, shown
from cnctl.images import read_image, read_size
from cnctl.system.lines import decode


@dataclass(frozen=True)
class Sample:
    """The members of one example. key: what their names have in common.

    prompt_kind: "txt", "json" or what was named for it; "" for none.
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
    prompt_keys: tuple[str, ...] = COLUMNS.prompt
    """Keys under which the JSON of an example may have its prompt."""
    problems: tuple[Problem, ...] = ()

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

    @property
    def ready_prompts(self) -> int:
        """How many examples include a prompt, or a JSON file that should hold one."""
        return sum(row.prompt is not None and row.prompt.size > 0 for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        image, hint, prompt = row.read()
        ready = None if hint is None else self.read_hint(hint)
        return Example(read_image(image), ready, self._prompt(row, prompt))

    def prompt(self, index: int) -> str:
        """Return the prompt alone, whose member is read."""
        row = self.rows[index]
        found = read_members(row.shard.read, [row.prompt]) if row.prompt else [None]
        return self._prompt(row, next(iter(found)))

    def _prompt(self, row: Sample, data: bytes | None) -> str:
        if data is None:
            return ""
        name = f"{row.name}.{row.prompt_kind}"
        text = decode(data, name)
        if not row.prompt_kind.endswith("json"):
            return text.strip()
        try:
            entry = json.loads(text)
        except json.JSONDecodeError as error:
            raise CnctlError(f"{name} is not JSON: {error.msg}", hint="fix it") from error
        fields = entry if isinstance(entry, dict) else {}
        values = [fields[key] for key in self.prompt_keys if isinstance(fields.get(key), str)]
        if not values:
            raise CnctlError(
                f"{name} has no {' or '.join(map(repr, self.prompt_keys))} with text",
                hint=f"it has {', '.join(fields) or 'no keys'}; {FLAG} prompt=KEY names it",
            )
        return next((value for value in values if value.strip()), "")

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
    given: Mapping[str, str],
    *,
    read_hint: Callable[[bytes], np.ndarray],
    note: Callable[[str], None] = lambda text: None,
) -> ShardDataset:
    """Open the shards that a path or URL with globs or braces names, sorted by name.

    given: names of members, of folders or of a key of JSON, from `parse_columns`. Only headers are
    read; those of remote shards are cached.
    """
    if not is_url(pattern):
        paths = {path for part in expand_braces(pattern) for path in _matches(part)}
        return open_shard_files([*map(Path, sorted(paths))], pattern, given, read_hint=read_hint)
    listed = list(_open_remote(pattern, note))
    return _open(listed, shown(without_credentials(pattern)), given, read_hint=read_hint)


def open_shard_files(
    paths: Sequence[Path],
    source: str,
    given: Mapping[str, str],
    *,
    read_hint: Callable[[bytes], np.ndarray],
) -> ShardDataset:
    """Open these shards. source: what messages call them."""
    shards = map(LocalShard, paths)
    listed = [(shard, _list(shard, measure=False)) for shard in shards]
    return _open(listed, shown(source), given, read_hint=read_hint)


def _open(
    listed: Sequence[tuple[Shard, Listing]],
    source: str,
    given: Mapping[str, str],
    *,
    read_hint: Callable[[bytes], np.ndarray],
) -> ShardDataset:
    members = [member for _, listing in listed for member in listing.members]
    given, keys = _find_given(given, members, source)
    groups = [(shard, listing, group(listing.members, given)) for shard, listing in listed]
    rows = tuple(_sample(shard, each) for shard, _, found in groups for each in found if each.image)
    problems = tuple(find_problems(groups, source, is_given="hint" in given))
    if not rows:
        refuse_fatal(problems)
        raise CnctlError(
            f"--data {source} holds no images",
            hint="members are named 0001.jpg, 0001.hint.png and 0001.txt",
        )
    return ShardDataset(rows, read_hint, keys, problems)


def _find_given(
    given: Mapping[str, str], members: Sequence[Member], source: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the names of members and folders, and the keys of JSON that hold a prompt.

    Raises CnctlError for a name that no member has.
    """
    if not given:
        return {}, COLUMNS.prompt
    found = {name: None for member in members for name in names_of(member.name) if name}
    keys = COLUMNS.prompt
    if given.get("prompt", "") not in ("", *found) and "json" in found:
        keys = (given["prompt"],)
        given = {**given, "prompt": "json"}
    check_given(given, list(found), source)
    return dict(given), keys


def _sample(shard: Shard, found: Grouped) -> Sample:
    assert found.image is not None
    kind, prompt = found.first("prompt")
    return Sample(
        key=found.key,
        shard=shard,
        image=found.image,
        hint=found.hint,
        prompt=prompt,
        prompt_kind=kind,
    )


def _matches(pattern: str) -> list[str]:
    paths = glob.glob(pattern, recursive=True)
    if not paths:
        raise CnctlError(
            f"--data {shown(pattern)}: no such shard", hint="give for example 'data/*.tar'"
        )
    return paths


def _open_remote(pattern: str, note: Callable[[str], None]) -> Iterator[tuple[Shard, Listing]]:
    shards = find_remote(pattern)
    new = [shard for shard in shards if not is_kept(shard.identity)]
    if new:
        size = sum(shard.size for shard in new) / 1e6
        note(f"reading the headers of {counted(len(new), 'shard')} ({size:,.0f} MB) into the cache")
    # Processes that start together begin with different ones, and find the others in the cache.
    shuffled = random.Random().sample(shards, len(shards))
    members = dict(zip(shuffled, in_threads(_list_once, shuffled), strict=True))
    return ((shard, members[shard]) for shard in shards)


def _list_once(shard: RemoteShard) -> Listing:
    """Return its members with the sizes of images, which are read with the other headers."""
    return keep_index(shard.identity, lambda: _list(shard, measure=True))


def _list(shard: Shard, *, measure: bool) -> Listing:
    try:
        with shard.open() as file:
            return list_members(file, measure=measure)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CnctlError(
            f"{shown(shard.name)} is not an uncompressed tar file, or it is damaged: {error}",
            hint="copy it again, or decompress it",
        ) from error
