"""What each control of a run reads: the image, or the control's own file or folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cnctl.commands.generate.pictures import Pictures
from cnctl.commands.generate.request import ControlSpec
from cnctl.commands.shared.failures import Failures
from cnctl.errors import CnctlError, shown
from cnctl.plugin import Condition

if TYPE_CHECKING:
    from cnctl.commands.generate.loaded_controls import LoadedControl


def check_sources(
    controls: Sequence[ControlSpec],
    conditions: Sequence[Condition],
    images: Sequence[Path | None],
    *,
    ready: bool,
    pictures: Pictures,
    failures: Failures,
) -> None:
    """Read every input before anything slow happens: an unreadable one is reported at once.

    ready: all sources are hints.
    """

    def read(number: int, source: Path) -> None:
        is_ready = ready or controls[number].ready
        pictures.hint(conditions[number], source) if is_ready else pictures.photograph(source)

    for number, control in enumerate(controls):
        if control.source and not Path(control.source).is_dir():
            read(number, Path(control.source))
    for image in images:
        with failures.of(image) if image else nullcontext():
            for number, control in enumerate(controls):
                if source := source_of(control, image):
                    read(number, source)


def list_sources(controls: Sequence[LoadedControl], image: Path | None) -> list[Path]:
    """The file that each control reads for an image."""
    return [source for control in controls if (source := source_of(control.spec, image))]


def source_of(control: ControlSpec, image: Path | None) -> Path | None:
    """The file that a control reads for an image; None where there is neither.

    It is the control's own source, or the file in that folder with the image's name, or the image.
    In a folder, "-CONDITION" or "-hint" may follow the name. Of several such files the one counts
    whose own folder has the name of the image's folder.
    """
    if control.source is None:
        return image
    source = Path(control.source)
    if not source.is_dir():
        return source
    if image is None:
        raise CnctlError(
            f"{shown(source)} is a folder", hint="name the images whose hints it holds, or a file"
        )
    ends = ("", f"-{control.condition}", "-hint", f"-{control.condition}-hint")
    named = _files_in(source, [f"{image.stem}{end}" for end in ends])
    found = [path for path in named if path.parent.parts[-1:] == image.parent.parts[-1:]] or named
    if len(found) != 1:
        what = "several files" if found else "no file"
        raise CnctlError(f"{shown(source)} has {what} with the name of {shown(image.name)}")
    return found[0]


def _files_in(folder: Path, stems: Sequence[str]) -> list[Path]:
    """The files below a folder with these names, whatever their suffix, in the order of `stems`."""
    found = sorted(path for path in folder.rglob("[!.]*") if path.stem in stems and path.is_file())
    return sorted(found, key=lambda path: stems.index(path.stem))
