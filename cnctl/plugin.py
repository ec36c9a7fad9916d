"""The public API for conditions: a frozen value describes one kind of hint.

A condition is what a plugin exports under the entry-point group `cnctl.conditions`::

    def load_detector(device):
        import cv2                                   # heavy imports belong here
        def detect(image, radius):
            return cv2.blur(image, (radius, radius))
        return detect

    blur = Condition(name="blur", summary="Colours without detail",
                     load_detector=load_detector, options={"radius": Option(9, "kernel size, px")})

Make variants with `dataclasses.replace`. A detector that needs weights declares them in
`files`, and cnctl finds them. This module imports only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cnctl.errors import CnctlError, MissingError
from cnctl.weights import Weights as Weights

if TYPE_CHECKING:
    import numpy as np

    Image = np.ndarray
    Hint = np.ndarray
    Detector = Callable[..., "Hint | Detection | None"]

__all__ = [
    "BatchDetector",
    "CnctlError",
    "Condition",
    "Detection",
    "GenerateDefaults",
    "GroundTruth",
    "Metric",
    "MissingError",
    "Option",
    "TrainDefaults",
    "WeightFile",
    "Weights",
]

OptionValue = bool | int | float | str


def mirror(hint: Hint) -> Hint:
    """Return a hint with left and right swapped."""
    return hint[:, ::-1]


RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Option:
    """One setting of a detector. The type of `default` is the type of the option."""

    default: OptionValue
    help: str = ""
    choices: tuple[OptionValue, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False
    """Whether the detector cannot run with the default: a value must be given."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """Weights that a detector needs: which file, from where, under which licence."""

    repo: str
    """Hub id, "owner/name"."""
    filename: str = ""
    """Path in the repository; "" for the folder of a transformers model."""
    revision: str = ""
    """Commit to fetch; "" for the newest."""
    sha256: str = ""
    """Digest of the file as published, in hexadecimal; "" where unknown. For a folder: of its
    weights, model.safetensors or, where that is not published, pytorch_model.bin."""
    size: int = 0
    """Approximate bytes to fetch; 0 where unknown."""
    licence: str = ""
    commercial: bool = True
    """Whether the licence permits commercial use."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A hint and the data it was drawn from. A detector may return this instead of a hint."""

    hint: Hint
    data: Mapping[str, Any] = field(default_factory=dict)
    """JSON: numbers, text, lists and mappings; lines, key points and the like."""


@dataclass(frozen=True)
class BatchDetector:
    """A detector that processes many images at once; `load_detector` may return one.

    batch: `batch(images, **options)`, images of one size, uint8 (N, H, W, 3) -> N hints, each as a
    detector returns it.
    """

    batch: Callable[..., Sequence[Hint | Detection | None] | np.ndarray]

    def __call__(self, image: Image, **options: OptionValue) -> Hint | Detection | None:
        """Return the hint of one image, as any detector does."""
        return self.batch(image[None], **options)[0]


@dataclass(frozen=True, kw_only=True)
class TrainDefaults:
    """How to train on this condition; the built-in values are the paper's (section 3.3)."""

    learning_rate: float = 1e-5
    prompt_dropout: float = 0.5
    resolution: int = 512
    start_from: str = ""
    """Condition whose ControlNet the paper starts from ("" = a fresh copy of the base).

    Training does so only with `--init-from`, because what is installed must not decide a run."""
    recipe: str = ""
    """The paper's data set for this condition, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class GenerateDefaults:
    """How to generate with this condition; the built-in values are the paper's (section 4.1)."""

    steps: int = 20
    guidance_scale: float = 9.0
    control_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How well an output obeys its hint, measured on the hint detected in the output."""

    name: str
    score: Callable[[Hint, Hint], float]
    """score(hint, detected): two hints of one size, uint8 (H, W, C) -> number."""
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Hints from a data set's own maps: which file belongs to an image, and how to read it."""

    name: str
    """Pattern of the file that belongs to "a.jpg": "{stem}.png" is a.png, "{name}.json" is
    a.jpg.json."""
    read: Callable[..., Hint | Detection | None]
    """`read(values, sizes=..., **options)` -> hint; the options are the detector's. values: the
    array of a .npy file; the content of a .json file; the stored samples (H, W) or (H, W, C) of an
    image, or its indices if it has a palette (unless it shows the condition's own colours: then it
    is read as a hint). sizes: (height, width) of the stored image, and of the hint to return, to
    which hints of other sizes are fitted; None where there is no image. Returns None where this is
    not such a file; raises CnctlError where it is damaged.
    """

    @property
    def ending(self) -> str:
        """The end of the names of all such files."""
        return self.name.rpartition("}")[2]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One kind of hint: how to detect it, how a network reads it, how to train on it.

    load_detector: device ("cpu", "cuda", ...) -> detector. Slow, called once. With `files` it is
    called as load_detector(device, files): `files[key]` is the path of a .safetensors file, or of a
    transformers folder without a pickle; looking it up raises MissingError if it is not installed.
    A detector is `detect(image, **options) -> hint`. `image` is upright RGB uint8 (H, W, 3) at
    working size. The hint is uint8 (H, W) or (H, W, C) of the same H and W, or grey uint16 (H, W);
    one channel is repeated to `hint_channels`. None means "nothing found here". With `masked` the
    hint has one channel more, which is not part of the picture: 0 where masked, 255 elsewhere.
    """

    name: str
    summary: str
    load_detector: Callable[..., Detector]
    files: Mapping[str, WeightFile] = field(default_factory=dict)
    """Weights that the detector reads, by a key that the plugin chooses."""
    options: Mapping[str, Option] = field(default_factory=dict)
    hint_channels: int = 3
    """What the network reads."""
    masked: bool = False
    """Hints carry a mask; where it is 0 the network reads -1, whatever the colours there."""
    palette: Mapping[str, RGB] = field(default_factory=dict)
    """label -> colour. A hint with a palette is resized by nearest neighbour only."""
    train: TrainDefaults = TrainDefaults()
    generate: GenerateDefaults = GenerateDefaults()
    training_options: Callable[[np.random.Generator], Mapping[str, OptionValue]] | None = None
    """Options drawn at random for each image when training data are built."""
    augment: Callable[[Hint, np.random.Generator], Hint] | None = None
    """Random change of a hint, uint8 (H, W, C) -> the same shape, while training."""
    flip: Callable[[Hint], Hint] | None = mirror
    """The hint of the mirrored image, (H, W, C) -> the same shape and dtype. None where it does not
    follow from the hint: where colours mean left and right, for instance."""
    draw: Callable[[Mapping[str, Any]], Hint] | None = None
    """Draws the hint from a detection's data, which a user may have edited or written."""
    ground_truth: GroundTruth | None = None
    """How to read this hint from a data set's own maps."""
    from_maps: Callable[..., Hint | None] | None = None
    """The hint of a rendered picture, from its renderer's maps instead of by detection:
    `from_maps(maps, **options)`, with the detector's options. maps: "image", RGB uint8
    (H, W, 3); "depth", float32 (H, W) in [0, 1], 1 is near; "normals", float32 (H, W, 3), unit
    vectors, x right, y up, z to the viewer; "labels", uint8 (H, W), indices into "names", which are
    words of ADE20K; "edges", float32 (H, W) in [0, 1]; "people", float32 (N, 18, 2), x and y in
    pixels of OpenPose's points.
    """
    metric: str | Metric = "edge_f1"
    """Fidelity: the name of a metric in `cnctl.hints.metrics`, or the plugin's own Metric."""
    base: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    weights: tuple[Weights, ...] = ()
    """ControlNets that the plugin itself publishes; cnctl lists those for its own conditions."""
    licence: str = ""
    """Licence of the detector and its weights."""
    references: tuple[str, ...] = ()

    @property
    def stored_channels(self) -> int:
        """Channels of a stored hint: those that the network reads, and the mask."""
        return self.hint_channels + self.masked

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise ValueError(f"condition name {self.name!r}: use a-z, 0-9, '-' and '_'")
        if self.hint_channels < 1:
            raise ValueError(f"hint_channels is {self.hint_channels}; it must be at least 1")
        for mapping in ("files", "options", "palette"):
            frozen: Mapping[str, Any] = MappingProxyType(dict(getattr(self, mapping)))
            object.__setattr__(self, mapping, frozen)
