"""What decides the bytes of a data set beside its inputs: options and versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cnctl.curation.rules.bounds import Bounds
from cnctl.plugin import OptionValue

Images = Literal["copy", "link", "resize"]
Form = Literal["tar", "folder"]
"""What a shard is: a tar file, or a folder of files that metadata.jsonl lists."""


@dataclass(frozen=True, kw_only=True)
class HintRecipe:
    """One condition. options: those that are given; others are drawn for each image, or default.

    weights: sha256 of the detector's files, by their keys.
    """

    condition: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    resolution: int = 512
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of a run, complete: what they leave open nothing else decides.

    per_shard: rows of a shard. prompt: of images without a caption; None where there is none.
    captioner: of images without a caption, as of `load_captioner`; captioner_sha256: of its files.
    ground_truth: the folder whose maps state the hints; None where hints are detected.
    held_out: the share that is written to the validation split. batch: images that a detector sees
    at once. device: its kind, "cpu" or "cuda".
    """

    hints: tuple[HintRecipe, ...]
    per_shard: int
    form: Form = "tar"
    images: Images = "copy"
    prompt: str | None = None
    captioner: str | None = None
    captioner_sha256: str = ""
    ground_truth: str | None = None
    seed: int = 0
    held_out: float = 0.0
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    keep_all: bool = False
    subsets: tuple[int, ...] = ()
    largest: int | None = None
    sample: int | None = None
    every: int | None = None
    batch: int = 1
    device: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of what makes pixels and bytes, by package."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def recipe_from(document: Mapping[str, Any]) -> Recipe:
    """The recipe that `as_dict` wrote."""
    hints = tuple(HintRecipe(**hint) for hint in document["hints"])
    bounds = {name: Bounds(**bound) for name, bound in document["bounds"].items()}
    whole = {"hints": hints, "bounds": bounds, "subsets": tuple(document["subsets"])}
    return Recipe(**{**document, **whole})
