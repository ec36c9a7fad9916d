"""Images in WebDataset tar files, here or at a URL, with the texts beside them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cnctl.curation.rows import Place, Row
from cnctl.curation.sources.broken import broken_row
from cnctl.curation.sources.content import Content, caption_of, in_one_line
from cnctl.curation.sources.lists import read_names
from cnctl.data.columns import COLUMNS, FLAG
from cnctl.data.kept_indexes import keep_index
from cnctl.data.local import LocalShard, Shard
from cnctl.data.members import Listing, Member, list_members, read_members
from cnctl.data.remote import RemoteShard, find_remote
from cnctl.data.samples import Grouped, group
from cnctl.data.urls import is_url, without_credentials
from cnctl.errors import CnctlError, shown
from cnctl.images import MAX_BYTES, SUFFIXES, UNREADABLE_PHOTOS
from cnctl.system.lines import decode

KIND = "member"
PHOTOS = SUFFIXES | UNREADABLE_PHOTOS
"""Suffixes of members that are images, or failed inputs."""


def local_rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the images of a tar file on this machine."""
    return _rows(LocalShard(path), columns)


def remote_rows(pattern: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the images of the tar files that a URL with braces or a glob names."""
    for shard in find_remote(pattern):
        yield from _rows(shard, columns)


def secret_urls(patterns: list[str]) -> dict[str, str]:
    """The URLs with credentials by their names without, which are all that a plan may hold."""
    urls = [shard.url for p in patterns if p != without_credentials(p) for shard in find_remote(p)]
    found: dict[str, str] = {}
    for url in urls:
        name = without_credentials(url)
        if found.setdefault(name, url) != url:
            raise CnctlError(
                f"several URLs are called {shown(name)} without their credentials",
                hint="give shards whose paths differ",
            )
    return found


def read(place: Place, secrets: Mapping[str, str]) -> Content:
    """The member and its text, in one request where they are neighbours."""
    _, name, _, offset, size, caption_offset, caption_size, kind = place
    shard = _shard(str(name), secrets)
    image = Member("", int(offset), int(size))
    if image.size > MAX_BYTES:
        raise CnctlError(f"it is larger than {MAX_BYTES >> 20} MiB")
    if not kind:
        return Content(shard.read(image.offset, image.size))
    caption = Member("", int(caption_offset), int(caption_size))
    data, text = read_members(shard.read, [image, caption])
    return Content(data, _text(text, str(kind)), f"{kind} in the shard")


def _rows(shard: Shard, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the images of a shard; what it lacks or cannot give is a row, too."""
    try:
        listing = _list(shard)
    except (tarfile.TarError, OSError, EOFError, CnctlError) as error:
        yield broken_row(shown(shard.name), f"it is not an uncompressed tar file: {error}")
        return
    given = read_names(columns)
    for found in group(listing.members, given):
        yield from _of_group(shard, found, images=_images(found, given))
    if listing.fault:
        yield broken_row(shown(shard.name), listing.fault)


def _list(shard: Shard) -> Listing:
    def look() -> Listing:
        with shard.open() as file:
            return list_members(file, measure=isinstance(shard, RemoteShard))

    return keep_index(shard.identity, look) if isinstance(shard, RemoteShard) else look()


def _images(found: Grouped, given: Mapping[str, str]) -> Sequence[Member]:
    """The images of a key: those that training reads, else those in other formats."""
    known = found.roles.get("image", {})
    if known or "image" in given:
        return [*known.values()]
    return [m for kind, m in found.roles.get("", {}).items() if f".{kind}" in PHOTOS]


def _of_group(shard: Shard, found: Grouped, *, images: Sequence[Member]) -> Iterator[Row]:
    kind, caption = found.first("prompt")
    where = (caption.offset, caption.size, kind) if caption else (0, 0, "")
    if not images and (why := _why_no_image(found)):
        yield broken_row(found.key, why)
    for image in images:
        place = (KIND, shard.name, _version(shard), image.offset, image.size, *where)
        yield Row(image.name, place, "", image.size)
    for twice in found.twice:
        yield broken_row(f"{found.key}.{twice}", "its name is in the shard more than once")


def _why_no_image(found: Grouped) -> str:
    """What to do about a key whose members end as images do, and are not; "" for other keys."""
    is_hidden = found.key.rpartition("/")[2].startswith(".")
    roles = {kind: role for role, kinds in found.roles.items() for kind in kinds}
    kinds = [kind for kind in roles if f".{kind.rpartition('.')[2]}" in PHOTOS]
    if not kinds or is_hidden:
        return ""
    unknown = next((kind for kind in kinds if not roles[kind]), "")
    return f"no image, but {', '.join(kinds)}" + f"; {FLAG} image={unknown} reads it" * bool(
        unknown
    )


def _version(shard: Shard) -> str:
    return hashlib.sha256(shard.version.encode()).hexdigest()[:8] if shard.version else ""


def _shard(name: str, secrets: Mapping[str, str]) -> Shard:
    if not is_url(name):
        return LocalShard(Path(name))
    return RemoteShard(secrets.get(name, name), 0, "")


def _text(data: bytes, kind: str) -> str:
    text = decode(data, f"the .{kind}")
    if not kind.endswith("json"):
        return in_one_line(text)
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise CnctlError(f"its .{kind} is not JSON: {error}") from error
    return caption_of(fields if isinstance(fields, dict) else {}, COLUMNS.prompt)
