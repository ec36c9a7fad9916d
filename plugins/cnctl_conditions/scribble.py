"""Scribbles: a user's drawing, or strokes synthesised from soft edges (paper, section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import Condition, Option, TrainDefaults
from cnctl_conditions.hed import HED_FILE
from cnctl_conditions.shared.annotators import SECTION

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Image, OptionValue

SIGMA = 3.0
SPREAD = 4
"""The released models' data: lines blurred by sigma 3, then all above 4 of 255 becomes stroke."""
REFERENCE = 512
"""Stroke widths are in pixels at this short side."""
MAX_SEED = 2**31 - 1


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    """Loads HED when it is first asked for; a drawing needs no file."""
    loaded: list[Callable[[np.ndarray], np.ndarray]] = []

    def soft_edges(image: Image) -> np.ndarray:
        from cnctl_conditions.hed import load_hed, to_hint

        if not loaded:
            loaded.append(load_hed(device, files["hed"]))
        return to_hint(loaded[0](image[None])[0], safe=False)

    def detect(image: Image, *, drawing: bool, **options: Any) -> np.ndarray | None:
        strokes = read_drawing(image) if drawing else scribble_along(soft_edges(image), **options)
        return strokes if strokes.any() else None

    return detect


def scribble_along(
    edges: np.ndarray,
    *,
    threshold: int,
    thin: str,
    width: float,
    brush: str,
    keep: float,
    seed: int,
) -> np.ndarray:
    """Strokes along soft edges, uint8 (H, W) both: the paper's synthesis of human scribbles."""
    lines = keep_some(thin_lines(edges, threshold, thin), keep, seed)
    return thicken(lines, width, brush)


def from_maps(maps: Mapping[str, Any], *, drawing: bool, **options: Any) -> np.ndarray | None:
    """Strokes along a renderer's outlines, too fine for the blur before non-maximum suppression."""
    from cnctl_conditions.hed import to_hint

    edges = to_hint(maps["edges"], safe=False)
    strokes = scribble_along(edges, **options | {"thin": "skeleton"})
    return strokes if strokes.any() else None


def read_drawing(image: Image) -> np.ndarray:
    """Strokes of a drawing, dark on bright or bright on dark alike: uint8 (H, W), 0 or 255.

    What covers most of the picture is the paper. On bright paper a stroke is where any of the
    colours is below 127, as the released models read it; on dark paper, where any is above 128.
    """
    import numpy as np

    bright_paper = np.median(image) > 127
    strokes = image.min(axis=2) < 127 if bright_paper else image.max(axis=2) > 128
    return np.where(strokes, 255, 0).astype(np.uint8)


def thin_lines(edges: np.ndarray, threshold: int, method: str) -> np.ndarray:
    """Lines a pixel or two wide along edges (uint8 (H, W)) above the threshold: 0 or 255.

    "nms" keeps what is highest across one of four directions; "skeleton" thins all that is above.
    """
    import numpy as np

    if method == "skeleton":
        from skimage.morphology import skeletonize

        return np.where(skeletonize(edges > threshold), 255, 0).astype(np.uint8)
    return suppress(edges, threshold)


def suppress(edges: np.ndarray, threshold: int) -> np.ndarray:
    """Non-maximum suppression on the edges blurred by sigma 3: uint8 (H, W), 0 or 255."""
    import cv2
    import numpy as np

    blurred = cv2.GaussianBlur(edges.astype(np.float32), (0, 0), SIGMA)
    across = np.zeros((3, 3), np.uint8)
    across[1] = 1
    slanted = np.eye(3, dtype=np.uint8)
    highest = np.zeros(edges.shape, bool)
    for direction in (across, across.T, slanted, slanted[::-1]):
        kernel = np.ascontiguousarray(direction)
        highest |= cv2.dilate(blurred, kernel) == blurred
    return np.where(highest & (blurred > threshold), 255, 0).astype(np.uint8)


def keep_some(lines: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask out strokes at random until about this share of them is left.

    A stroke ends where lines meet or cross.
    """
    import cv2
    import numpy as np

    if share >= 1:
        return lines
    on = (lines > 0).astype(np.uint8)
    around = cv2.filter2D(on, -1, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT) - on
    crossings = (on > 0) & (around > 2)
    count, labels = cv2.connectedComponents(np.where(crossings, 0, on).astype(np.uint8))
    kept = np.random.default_rng(seed).random(count) < share
    kept[0] = False
    strokes = kept[labels]
    near = cv2.dilate(strokes.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(strokes | (crossings & near), 255, 0).astype(np.uint8)


def thicken(lines: np.ndarray, width: float, brush: str) -> np.ndarray:
    """Draw over the lines with a brush, `width` pixels at 512; width 0 is the released models'."""
    import cv2
    import numpy as np

    if width == 0:
        blurred = cv2.GaussianBlur(lines, (0, 0), SIGMA)
        return np.where(blurred > SPREAD, 255, 0).astype(np.uint8)
    pixels = max(1, round(width * min(lines.shape) / REFERENCE))
    shapes = {"disc": cv2.MORPH_ELLIPSE, "square": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS}
    return cv2.dilate(lines, cv2.getStructuringElement(shapes[brush], (pixels, pixels)))


def random_scribble(rng: np.random.Generator) -> dict[str, OptionValue]:
    """The paper's augmentations. It gives no distributions: whole ranges, evenly.

    Widths of 1 to 24 pixels at 512 are those of ControlNet 1.1.
    """
    return {
        "threshold": int(rng.integers(1, 255)),
        "thin": str(rng.choice(["nms", "skeleton"])),
        "width": float(rng.integers(1, 25)),
        "brush": str(rng.choice(["disc", "square", "cross"])),
        "keep": float(rng.uniform()),
        "seed": int(rng.integers(MAX_SEED)),
    }


scribble = Condition(
    name="scribble",
    summary="Scribbles, white on black: a drawing's, or made from a photo",
    load_detector=load_detector,
    files={"hed": HED_FILE},
    options={
        "drawing": Option(False, "the image is a drawing, of either polarity; needs no weights"),
        "threshold": Option(127, "weaker edges do not become strokes", minimum=1, maximum=254),
        "thin": Option("nms", "how edges become lines", choices=("nms", "skeleton")),
        "width": Option(
            0.0,
            "width of strokes, px at 512; 0 as for the released models",
            minimum=0.0,
            maximum=24.0,
        ),
        "brush": Option(
            "disc", "shape of the brush, if width is not 0", choices=("disc", "square", "cross")
        ),
        "keep": Option(1.0, "share of strokes that is not masked out", minimum=0.0, maximum=1.0),
        "seed": Option(0, "seed of the masking", minimum=0, maximum=MAX_SEED),
    },
    training_options=random_scribble,
    from_maps=from_maps,
    train=TrainDefaults(
        start_from="canny",
        recipe="500k pairs from the internet; HED with random thresholds, random masking-out of "
        "scribbles, random morphology and random non-maximum suppression; starts from the Canny "
        "model; 150 A100 80G GPU-hours",
    ),
    metric="edge_f1",
    licence="Apache-2.0",
    references=(
        SECTION,
        "Xie, Tu: Holistically-Nested Edge Detection, ICCV 2015",
    ),
)
