"""Which members of a shard form an example: those whose names have a key in common.

0001.jpg, 0001.hint.png and 0001.txt are one, and so are image/0001.jpg, hint/0001.png and
caption/0001.txt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

from cnctl.data.columns import FOLDERS, Names
from cnctl.data.members import IMAGE, Member, split_name

KINDS = Names(image=IMAGE, hint=("hint.png", "hint.npz"), prompt=("txt", "json"))
"""Ends of members' names, the preferred ones first."""
HINT_FILES = (*IMAGE, "npz")


@dataclass(slots=True)
class Grouped:
    """The members of one key, by role and kind; those without a role are not known."""

    key: str
    roles: dict[str, dict[str, Member]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    """Kinds that are there more than once."""

    @property
    def image(self) -> Member | None:
        """The image that is read."""
        return self.first("image")[1]

    @property
    def hint(self) -> Member | None:
        """The hint that is read."""
        return self.first("hint")[1]

    @property
    def prompt(self) -> Member | None:
        """The prompt that is read."""
        return self.first("prompt")[1]

    def first(self, role: str) -> tuple[str, Member | None]:
        """Return the kind and member that is read for a role; "" and None where there is none."""
        kinds = self.roles.get(role, {})
        known = getattr(KINDS, role)
        kind = min(kinds, key=lambda k: known.index(k) if k in known else len(known), default="")
        return kind, kinds.get(kind)

    def unread(self) -> Iterator[tuple[str, Member]]:
        """Yield the kinds and members that are not read."""
        for role, kinds in self.roles.items():
            used = self.first(role)[0] if role else ""
            yield from ((kind, member) for kind, member in kinds.items() if kind != used)


def group(members: Iterable[Member], given: Mapping[str, str]) -> list[Grouped]:
    """Return the members by key, in the order of the first of each.

    given: names of members' kinds ("canny.png" or "canny") or folders, from `parse_columns`.
    """
    groups: dict[str, Grouped] = {}
    role_of = cache(partial(_role, given=given))
    for member in members:
        folder, stem, kind = split_name(member.name)
        role, parent = role_of(folder, kind)
        key = f"{parent}/{stem}" if parent else stem
        if not stem:  # a hidden file
            key = member.name
        found = groups.get(key) or groups.setdefault(key, Grouped(key))
        kinds = found.roles.setdefault(role, {})
        if kind in kinds:
            found.twice.append(kind)
        kinds.setdefault(kind, member)
    return list(groups.values())


def names_of(name: str) -> list[str]:
    """Return the names by which a user may call a member: its kind, a part of it, its folder."""
    folder, _, kind = split_name(name)
    return [kind, kind.rpartition(".")[0], folder.rpartition("/")[2]]


def is_image(kind: str) -> bool:
    """Return whether the rest of a name is that of an image or a hint."""
    return kind.rpartition(".")[2] in HINT_FILES


def _role(path: str, kind: str, *, given: Mapping[str, str]) -> tuple[str, str]:
    """Return a member's role, "" for none, and the folder that is part of its key."""
    parent, _, folder = path.rpartition("/")
    named = next((r for r, n in given.items() if n and _is_called(n, kind, folder)), "")
    role = named or _known_role(kind, folder, given)
    is_part = folder in given.values() or any(folder in names for names in FOLDERS)
    return role, parent if role and folder and is_part else path


def _is_called(name: str, kind: str, folder: str) -> bool:
    return name.lower() in (kind, kind.rpartition(".")[0]) or name == folder


def _known_role(kind: str, folder: str, given: Mapping[str, str]) -> str:
    if folder in FOLDERS.hint and kind in HINT_FILES:
        role = "hint"
    else:
        role = next((role for role, kinds in KINDS._asdict().items() if kind in kinds), "")
    return "" if role in given else role
