"""What is wrong with shards, and what of them is not read, from their headers alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from cnctl.data.columns import FLAG, unread_hints
from cnctl.data.local import Shard
from cnctl.data.members import Listing
from cnctl.data.problems import TOLD, Problem
from cnctl.data.samples import Grouped, is_image
from cnctl.errors import counted, shown

Groups = Sequence[tuple[Shard, Listing, Sequence[Grouped]]]
MANY = 4
"""So many folders and more with a name in common are classes, and not image and hint."""


def find_problems(groups: Groups, source: str, *, is_given: bool) -> Iterator[Problem]:
    """Yield the problems of shards, those that stop training first.

    source: how all of them are called. is_given: whether the user says where the hints are.
    """
    yield from _incomplete(groups)
    yield from _duplicates(groups)
    if not is_given:
        yield from _other_hints(groups, source)
        yield from _other_folders(groups, source)
    yield from _alone(groups)
    yield from _unread(groups, source)


def _incomplete(groups: Groups) -> Iterator[Problem]:
    any_hints = any(each.hint for _, _, found in groups for each in found)
    for shard, listing, found in groups:
        if listing.fault:
            samples = [each for each in found if each.image]
            lost = {
                "a hint": sum(not each.hint for each in samples) if any_hints else 0,
                "a prompt": sum(not each.prompt for each in samples),
            }
            lacks = "".join(
                f"; {count} of its {len(samples)} samples lack{'s' * (count == 1)} {part}"
                for part, count in lost.items()
                if count
            )
            yield Problem(
                shown(shard.name),
                listing.fault + lacks,
                fatal=True,
                hint="copy or write it again, or leave it out",
            )


def _duplicates(groups: Groups) -> Iterator[Problem]:
    for shard, _, found in groups:
        for each in found:
            if each.twice:
                what = f"its key is there more than once ({', '.join(sorted({*each.twice}))})"
                name = _name(shard, each)
                yield Problem(name, what, fatal=True, hint="write each example with its own key")


def _other_hints(groups: Groups, source: str) -> Iterator[Problem]:
    """Yield the part of samples without a hint that may be one."""
    samples = [each for _, _, found in groups for each in found if each.image]
    kinds = Counter(
        next((kind for kind, _ in each.unread() if is_image(kind)), "")
        for each in samples
        if not each.hint
    )
    del kinds[""]
    for kind, count in kinds.most_common(1):
        yield unread_hints(source, kind, count=count, examples=len(samples))


def _other_folders(groups: Groups, source: str) -> Iterator[Problem]:
    """Yield two folders of images with equal names: one may hold the hints of the other."""
    folders: dict[tuple[int, PurePosixPath, str], list[str]] = defaultdict(list)
    for number, (_, _, found) in enumerate(groups):
        for each in found:
            if each.image and not each.hint:
                path = PurePosixPath(each.image.name)
                stem = path.name.partition(".")[0]
                folders[number, path.parent.parent, stem].append(path.parent.name)
    counts = Counter(name for names in folders.values() for name in names)
    common = Counter(tuple(names) for names in folders.values() if 1 < len(names) < MANY)
    for names, count in common.most_common(1):
        if 2 * count > max(counts[name] for name in names):
            first, second = names[:2]
            what = f"{first or '.'}/ and {second}/ hold {count} images of equal names"
            image = f"image={first}," if first else ""
            hint = f"{FLAG} {image}hint={second} pairs them, {FLAG} hint= detects the hints of all"
            yield Problem(source, what, fatal=True, hint=hint)


def _alone(groups: Groups) -> Iterator[Problem]:
    for shard, _, found in groups:
        for each in found:
            parts = [role for role in ("hint", "prompt") if each.roles.get(role)]
            if not each.image and parts:
                what = f"it has a {' and a '.join(parts)} and no image, and is not read"
                yield Problem(_name(shard, each), what)


def _unread(groups: Groups, source: str) -> Iterator[Problem]:
    kinds: Counter[str] = Counter()
    firsts: dict[str, str] = {}
    for shard, _, found in groups:
        for each in found:
            for kind, member in each.unread():
                if _describes(kind, each):
                    continue
                kinds[kind] += 1
                firsts.setdefault(kind, f"{shard.file_name}/{member.name}")
    for kind, count in kinds.most_common(TOLD):
        first = shown(firsts[kind])
        what = f"not read: {counted(count, 'member')} .{shown(kind)}, the first is {first}"
        yield Problem(source, what, hint=f"{FLAG} maps them")
    if len(kinds) > TOLD:
        what = f"not read: members of {counted(len(kinds) - TOLD, 'more kind')}"
        yield Problem(source, what)


def _describes(kind: str, found: Grouped) -> bool:
    """Whether it is JSON about an example, or about a hint that is there: 1.json, 1.hint.json."""
    start = kind.removesuffix("json")
    others = {other for kinds in found.roles.values() for other in kinds} - {kind}
    return start != kind and any(other.startswith(start) for other in others)


def _name(shard: Shard, found: Grouped) -> str:
    return f"{shown(shard.name)}/{shown(found.key)}"
