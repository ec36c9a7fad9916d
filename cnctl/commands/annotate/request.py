"""What `cnctl annotate` is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cnctl.commands.shared import flags
from cnctl.settings.declaration import Declared, Flag, at_least


@dataclass(frozen=True, kw_only=True)
class AnnotateRequest(Declared):
    """The images to annotate, by which conditions, and where their hints go."""

    conditions: str | Sequence[str]
    inputs: Sequence[str | Path]
    """Files, folders, quoted globs; "-" is an image on standard input."""
    out: Annotated[
        str | Path, Flag("Folder; or a .png or - (stdout) for one hint.", ("--out", "-o"))
    ] = "out"
    """A folder takes `<stem>-<condition>.png` and keeps the tree of the images."""
    options: Annotated[
        Sequence[str],
        Flag(
            "Detector option, repeatable; NAME.KEY=VALUE with several conditions.",
            ("--option",),
            metavar="KEY=VALUE",
        ),
    ] = ()
    resolution: int | None = None
    """Declared by `AnnotateSettings`; None for the settings', or what the condition trains at."""
    compared: Annotated[
        bool, Flag("Also write a sheet of each image beside all its hints.", ("--compare",))
    ] = False
    ground_truth: Annotated[
        str | Path | None,
        Flag("Read hints from a data set's own maps; detect nothing.", metavar="DIR"),
    ] = None
    """The maps lie in the tree of the images."""
    dataset: Annotated[bool, Flag("Write a folder for cnctl train --data.")] = False
    """Options that the condition draws at random are a function of (seed, relative path); options
    that are given stay as given."""
    prompt: Annotated[
        str | None, Flag("Prompt for --dataset where a.jpg has no a.txt.", ("--prompt", "-p"))
    ] = None
    largest: Annotated[int | None, Flag("Only the N images with the most pixels.", metavar="N")] = (
        None
    )
    sample: Annotated[int | None, Flag("Only N images, drawn by --seed.", metavar="N")] = None
    seed: Annotated[
        int, Flag("Seed for --sample and for options that --dataset draws."), at_least(0)
    ] = 0
    overwrite: Annotated[bool, Flag("Replace existing hints.")] = False
    device: flags.Device = None
    batch: Annotated[
        int | None,
        Flag("Images that a network processes at once.", default="1 on the CPU, else 4"),
        at_least(1),
    ] = None
    """Of one size, and only for detectors that take several in one call."""
    commercial: Annotated[bool, Flag("Refuse weights that are for research only.")] = False
    """CNCTL_COMMERCIAL asks for the same."""

    @property
    def is_one_file(self) -> bool:
        """Whether `out` names a file, or standard output, and not a folder."""
        if self.dataset:
            return False
        from cnctl.images import names_a_file  # imports numpy, which `cnctl --help` need not load

        return self.out == "-" or names_a_file(self.out)
