"""Straight lines: M-LSD, or without weights the classical LSD (paper, section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import Condition, Detection, MissingError, Option, TrainDefaults
from cnctl_conditions.shared.annotators import SECTION, annotator
from cnctl_conditions.shared.canvas import blank

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint, Image

    Lines = Callable[[Image, float], tuple[np.ndarray, np.ndarray]]
    """image, least score -> (N, 4) x0 y0 x1 y1 in pixels, and (N,) scores."""

MAX_LINES = 200
MULTIPLE = 16


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    """Loads M-LSD when it is first asked for; LSD needs no file."""
    finders: dict[str, Lines] = {"lsd": _lsd}

    def detect(image: Image, *, method: str, score: float, distance: float) -> Detection | None:
        if method not in finders:
            finders[method] = _load_mlsd(device, files)
        return _lines(image, finders[method], score=score, distance=distance)

    return detect


def _lines(image: Image, find: Lines, *, score: float, distance: float) -> Detection | None:
    import numpy as np

    lines, scores = find(image, score)
    lengths = np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])
    long_enough = lengths > 2 * distance
    if not long_enough.any():
        return None
    height, width = image.shape[:2]
    data = {
        "width": width,
        "height": height,
        "lines": np.round(lines[long_enough], 2).tolist(),
        "scores": np.round(scores[long_enough], 4).tolist(),
    }
    return Detection(hint=draw_lines(data), data=data)


def draw_lines(data: Mapping[str, Any]) -> Hint:
    """White lines of one pixel on black.

    data: {"width", "height", "lines": [[x0, y0, x1, y1], ...]}, all in pixels.
    """
    import cv2

    canvas = blank(data["height"], data["width"])
    for line in data["lines"]:
        x0, y0, x1, y1 = (int(value) for value in line)
        cv2.line(canvas, (x0, y0), (x1, y1), 255, 1)
    return canvas


def decode(maps: np.ndarray, score: float) -> tuple[np.ndarray, np.ndarray]:
    """Lines in pixels of the image, and their scores, from M-LSD's maps (9, H/2, W/2).

    Channel 0 is the logit of a line's middle, channels 1 to 4 the offsets of both its ends. A
    middle is the largest of its 3x3 neighbours, and among the best 200.
    """
    import cv2
    import numpy as np

    heat = 1 / (1 + np.exp(-maps[0].astype(np.float64)))
    peaks = np.where(heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8)), heat, 0)
    best = np.argsort(-peaks, axis=None, kind="stable")[:MAX_LINES]
    y, x = np.unravel_index(best, heat.shape)
    keep = peaks[y, x] > score
    y, x = y[keep], x[keep]
    middles = np.stack([x, y, x, y], axis=1)
    return 2 * (middles + maps[1:5, y, x].T.astype(np.float64)), heat[y, x]


def _load_mlsd(device: str, files: Mapping[str, Path]) -> Lines:
    import numpy as np
    import torch

    from cnctl_conditions.shared.networks import import_network, load_network, to_batch

    try:
        path = files["mlsd"]
    except MissingError as error:
        hint = f"{error.hint}; --option method=lsd needs no weights"
        raise MissingError(str(error), hint=hint) from error
    build = import_network("mlsd.models.mbv2_mlsd_large", "MobileV2_MLSD_Large")
    network = load_network(build, path, device=device)

    def find(image: Image, score: float) -> tuple[np.ndarray, np.ndarray]:
        # The fourth channel is 1 among colours of 0..255: so the network was trained.
        ones = np.ones((*image.shape[:2], 1), np.uint8)
        batch = to_batch(np.concatenate([image, ones], 2)[None], device=device, multiple=MULTIPLE)
        with torch.inference_mode():
            maps = network(batch / 127.5 - 1)[0].cpu().numpy()
        height, width = image.shape[:2]
        return decode(maps[:, : (height + 1) // 2, : (width + 1) // 2], score)

    return find


def _lsd(image: Image, score: float) -> tuple[np.ndarray, np.ndarray]:
    """Grompone von Gioi's line segment detector of OpenCV; it has no scores, all are 1."""
    import cv2
    import numpy as np

    found = cv2.createLineSegmentDetector().detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    lines = np.zeros((0, 4)) if found is None else found.reshape(-1, 4).astype(np.float64)
    return lines, np.ones(len(lines))


def from_maps(
    maps: Mapping[str, Any], *, method: str, score: float, distance: float
) -> Hint | None:
    """Straight lines of a rendered picture; by LSD, since M-LSD never saw drawn things."""
    found = _lines(maps["image"], _lsd, score=score, distance=distance)
    return None if found is None else found.hint


hough = Condition(
    name="hough",
    summary="Straight lines, white on black",
    load_detector=load_detector,
    files={
        "mlsd": annotator(
            "mlsd_large_512_fp32.pth",
            sha256="5696f168eb2c30d4374bbfd45436f7415bb4d88da29bea97eea0101520fba082",
            size=6_341_481,
            licence="Apache-2.0",
        )
    },
    options={
        "method": Option("mlsd", "lsd is classical and needs no weights", choices=("mlsd", "lsd")),
        "score": Option(0.1, "M-LSD: less certain lines are dropped", minimum=0.0, maximum=1.0),
        "distance": Option(
            0.1, "shorter lines are dropped, in units of 2 pixels", minimum=0.0, maximum=256.0
        ),
    },
    draw=draw_lines,
    train=TrainDefaults(
        start_from="canny",
        recipe="600k pairs: lines of Places2, captioned by BLIP; starts from the Canny model; "
        "150 A100 80G GPU-hours",
    ),
    from_maps=from_maps,
    metric="edge_f1",
    licence="Apache-2.0",
    references=(
        SECTION,
        "Gu et al.: Towards Light-weight and Real-time Line Segment Detection, AAAI 2022 (M-LSD)",
        "Grompone von Gioi et al.: LSD: a Line Segment Detector, IPOL 2, 2012",
    ),
)
