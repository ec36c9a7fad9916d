"""Find image files among files, folders and globs."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cnctl.errors import CnctlError, reason, shown

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
)
"""Suffixes of images that can be read."""
UNREADABLE_PHOTOS = frozenset({".avif", ".heic", ".heif", ".jp2", ".jxl"})
"""Suffixes of photographs that cannot be read: folders are searched for them so that each is named
as an input that failed."""
OTHER_SUFFIXES = frozenset({".exr", ".npz", ".pgm", ".ppm", ".svg", ".tga"})
"""Suffixes of hints, and of other images that are not read."""


@dataclass(frozen=True)
class ImageFile:
    """One input. relative: its path below the folder that was given."""

    path: Path
    relative: Path


def find_images(inputs: Iterable[str | Path]) -> list[ImageFile]:
    """Return the image files among files, folders and globs, each path once, in natural order.

    Folders are searched recursively, for photographs in formats that cannot be read too. Hidden
    names and links to folders are skipped, so that a loop of links is harmless. A file that is
    given by name is taken whatever its suffix; what follows "/./" in it is its path below a folder,
    as rsync has it: photos/./pets/cat.jpg.
    Raises CnctlError for a missing input or a folder without images.
    """
    found = [image for item in inputs for image in _find_below(str(item))]
    unique = {os.path.abspath(image.path): image for image in reversed(found)}
    return [image for image in found if unique.pop(os.path.abspath(image.path), None)]


def matched_images(
    pattern: str, matches: Iterable[Path], *, suffixes: Container[str]
) -> Iterator[Path]:
    """Yield the files that a glob means: all that match if it says how names end, as "*.dat" does,
    else those with one of these suffixes; "photos/*" also matches captions and lists.
    """
    suffix = Path(pattern).suffix
    says_suffix = suffix and not glob.has_magic(suffix)
    return (path for path in matches if says_suffix or path.suffix.lower() in suffixes)


def names_a_file(out: str | Path) -> bool:
    """Return whether an output's name is a file's: it ends as images and hints do, in a format that
    can be written or not, and is not a folder. Any other name, out.v2 for one, is a folder's.
    """
    ends_so = Path(out).suffix.lower() in SUFFIXES | UNREADABLE_PHOTOS | OTHER_SUFFIXES
    return ends_so and not os.path.isdir(out)


def _find_below(item: str) -> list[ImageFile]:
    path = Path(item)
    if path.is_dir():
        return _walk(path)
    if path.exists():
        return [ImageFile(path, _relative(item))]
    if files := _expand(item):
        return files
    raise CnctlError(f"{shown(item)}: no such file or folder", hint="check the name")


def _relative(name: str) -> Path:
    folder, _, below = name.rpartition(f"{os.sep}.{os.sep}")
    return Path(below) if folder and ".." not in Path(below).parts else Path(Path(name).name)


def _expand(pattern: str) -> list[ImageFile]:
    """Return the files that a glob matches, relative to its part without wildcards."""
    if not glob.has_magic(pattern):
        return []
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    root = Path(*plain)
    matches = map(Path, sorted(glob.glob(pattern, recursive=True), key=_natural))
    images = matched_images(pattern, matches, suffixes=SUFFIXES | UNREADABLE_PHOTOS)
    return [ImageFile(match, match.relative_to(root)) for match in images if match.is_file()]


def _walk(folder: Path) -> list[ImageFile]:
    found = []
    for root, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if _looks_like_image(name)]
    if not found:
        raise CnctlError(
            f"{shown(folder)} holds no images",
            hint=f"the suffixes looked for are {' '.join(sorted(SUFFIXES))}",
        )
    images = [ImageFile(path, path.relative_to(folder)) for path in found]
    return sorted(images, key=lambda image: _natural(image.relative.as_posix()))


def _refuse_folder(error: OSError) -> None:
    name = shown(error.filename)
    raise CnctlError(f"{name} cannot be listed: {reason(error)}", hint="check its permissions")


def _looks_like_image(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return not name.startswith(".") and suffix in SUFFIXES | UNREADABLE_PHOTOS


def _natural(text: str) -> tuple[list[tuple[str, int]], str]:
    """Sort key: frame2 before frame10."""
    parts = re.findall(r"(\D*)(\d{0,18})", text)
    return [(words.lower(), int(digits or -1)) for words, digits in parts], text
