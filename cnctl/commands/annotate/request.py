"""What `cnctl annotate` is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cnctl.commands.shared import flags
from cnctl.settings.declaration import (
    Declared,
    Flag,
    at_least,
    declarations,
    less_than,
    matches,
    one_of,
)

OF_DATASETS = (
    *("shards", "shard_range", "workers", "image_timeout", "engine", "images", "rules"),
    *("keep_all", "held_out", "subsets", "caption", "captioner", "prompt"),
)
"""Fields that mean nothing without `dataset`."""


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
    shards: Annotated[
        int | None,
        Flag("Write --dataset as WebDataset tar files, for N inputs each.", metavar="N"),
        at_least(1),
    ] = None
    """See `cnctl.commands.annotate.curate`."""
    workers: Annotated[
        int | None,
        Flag("Processes for --dataset; 0: none.", default="one per core, or per GPU"),
        at_least(0),
    ] = None
    image_timeout: Annotated[
        float,
        Flag("Seconds after which a worker that reads one image is replaced; 0: never."),
        at_least(0),
    ] = 300.0
    """Three workers that hang at one image leave it out."""
    engine: Annotated[
        str,
        Flag("Where workers run: on this machine, or on a Ray cluster."),
        one_of("processes", "ray"),
    ] = "processes"
    shard_range: Annotated[
        str | None,
        Flag("Only these of the --shards, so that machines share a run.", metavar="A-B"),
        matches(r"\d+-\d+", "a range of numbers, as 0-9", metavar="A-B"),
    ] = None
    paths: Annotated[
        str | None,
        Flag("File with a path in each line, or ended by NUL; - is stdin.", metavar="FILE"),
    ] = None
    columns: flags.Columns = None
    every: Annotated[
        int | None, Flag("Take each Nth frame of videos.", metavar="N"), at_least(1)
    ] = None
    images: Annotated[
        str, Flag("What --dataset does with images."), one_of("copy", "link", "resize")
    ] = "copy"
    """Linked are files that need not be written again; shards hold no links."""
    rules: Annotated[
        Sequence[str],
        Flag("Bounds of a rule of quality, repeatable.", ("--rule",), metavar="NAME=MIN..MAX|off"),
    ] = ()
    keep_all: Annotated[bool, Flag("Measure by the rules, and leave out nothing for them.")] = False
    held_out: Annotated[
        float,
        Flag("Share of the images for the validation split, by content."),
        at_least(0),
        less_than(1),
    ] = 0.0
    subsets: Annotated[
        str | None,
        Flag("Also list nested subsets of these sizes.", metavar="N,N..."),
        matches(r"[1-9]\d*(,[1-9]\d*)*", "numbers, as 1000,10000", metavar="N,N..."),
    ] = None
    caption: Annotated[bool, Flag("Write a caption for each image without one.")] = False
    captioner: Annotated[
        str | None,
        Flag("For --caption: folder, cached hub id, or tiny.", default="BLIP"),
    ] = None
    prompt: Annotated[
        str | None,
        Flag("Prompt for --dataset, for images without a .txt of their name.", ("--prompt", "-p")),
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
    batch_size: Annotated[
        int | None,
        Flag("Images that a detector reads at once.", default="1 on the CPU, else 4"),
        at_least(1),
    ] = None
    """Of one size, and only for detectors that take several in one call."""
    commercial: Annotated[bool, Flag("Refuse weights that are for research only.")] = False
    """CNCTL_COMMERCIAL asks for the same."""

    def given(self, names: Sequence[str]) -> list[str]:
        """The flags, of the fields with these names, whose values are not their defaults."""
        declared = declarations(type(self))
        defaults = {field.name: field.default for field in fields(self)}
        return [declared[n].option for n in names if getattr(self, n) != defaults[n]]

    @property
    def is_one_file(self) -> bool:
        """Whether `out` names a file, or standard output, and not a folder."""
        if self.dataset:
            return False
        from cnctl.images import names_a_file  # imports numpy, which `cnctl --help` need not load

        return self.out == "-" or names_a_file(self.out)
