"""Rules about an image and its caption, whatever its hints."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from cnctl.curation.rules.subject import Subject

SIDE, LOW = 32, 8
"""Side of the picture whose cosine transform is hashed, and how many of its frequencies are."""
_FREQUENCIES = np.cos(np.pi / (2 * SIDE) * np.outer(range(LOW), range(1, 2 * SIDE, 2)))
"""The first rows of the cosine transform (DCT-II), float64 (8, 32)."""


def short_side(subject: Subject) -> float:
    """The short side of the image, in pixels."""
    return min(subject.size)


def aspect(subject: Subject) -> float:
    """The long side by the short side."""
    return round(max(subject.size) / min(subject.size), 4)


def colour(subject: Subject) -> float:
    """The mean distance between the strongest and the weakest channel, 0 to 255; grey has 0."""
    red, green, blue = cv2.split(subject.thumbnail)
    strongest = cv2.max(cv2.max(red, green), blue)
    weakest = cv2.min(cv2.min(red, green), blue)
    return round(cv2.mean(cv2.subtract(strongest, weakest))[0], 2)


def sharpness(subject: Subject) -> float:
    """The variance of the Laplacian of the grey image (Pech-Pacheco et al., 2000)."""
    grey = cv2.cvtColor(subject.image, cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(grey, cv2.CV_16S)
    mean = cv2.sumElems(edges)[0] / edges.size  # a tenth of the time of meanStdDev
    return round(cv2.norm(edges, cv2.NORM_L2SQR) / edges.size - mean**2, 2)


def caption_words(subject: Subject) -> float:
    """How many words the caption has."""
    return len(subject.caption.split())


def perceptual_hash(subject: Subject) -> int:
    """64 bits that are alike for images that look alike: those of imagehash's phash, whose cosine
    transform needs scipy, which takes as long to import as the hashes of a hundred images.
    """
    grey = (
        Image.fromarray(subject.thumbnail)
        .convert("L")
        .resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    )
    low = _FREQUENCIES @ np.asarray(grey, np.float64) @ _FREQUENCIES.T
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big")
