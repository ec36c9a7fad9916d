"""Indexes of remote shards, cached on this machine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cnctl.data.members import Listing, Member
from cnctl.errors import OutputError, writing
from cnctl.system.atomic import atomic_file
from cnctl.system.caches import cache_folder
from cnctl.system.locks import lock_file

PAUSE = 0.2
"""Seconds between two checks for an index that another process is making."""


def is_kept(identity: str) -> bool:
    """Return whether the index of this shard seems to be cached."""
    return bool(identity) and _path(identity).is_file()


def keep_index(identity: str, make: Callable[[], Listing]) -> Listing:
    """Return the index of this shard from the cache, or make it and cache it.

    identity: the shard's name and what changes with its content; "" where nothing does: the index
    is then not cached. A damaged entry is made again. Of several processes that need an index one
    makes it and the others wait.
    """
    if not identity:
        return make()
    path = _path(identity)
    while (listing := _read(path)) is None:
        with path.with_suffix(".lock").open("ab") as lock:
            try:
                lock_file(lock.fileno(), path)
            except OutputError:
                time.sleep(PAUSE)
                continue
            listing = _read(path)
            if listing is None:
                listing = make()
                _write(path, listing)
            break
    return listing


def _path(identity: str) -> Path:
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder("shards") / f"{digest}.json"


def _read(path: Path) -> Listing | None:
    with suppress(OSError, ValueError, TypeError):
        digest, _, text = path.read_bytes().partition(b"\n")
        if digest.decode() == hashlib.sha256(text).hexdigest():
            members, fault = json.loads(text)
            return Listing([_member(*row) for row in members], fault)
    return None


def _member(name: str, offset: int, size: int, pixels: list[int] | None) -> Member:
    return Member(name, offset, size, (pixels[0], pixels[1]) if pixels else None)


def _write(path: Path, listing: Listing) -> None:
    text = json.dumps(listing).encode()
    hint = "free some space, or name another folder in XDG_CACHE_HOME"
    with writing(path, hint=hint), atomic_file(path, overwrite=True, durable=False) as file:
        file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
