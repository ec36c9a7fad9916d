"""Rules about an image and its caption, whatever its hints."""

from __future__ import annotations

import cv2
import imagehash
import numpy as np
from PIL import Image

from cnctl.curation.rules.subject import Subject


def short_side(subject: Subject) -> float:
    """The short side of the image, in pixels."""
    return min(subject.size)


def aspect(subject: Subject) -> float:
    """The long side by the short side."""
    return round(max(subject.size) / min(subject.size), 4)


def colour(subject: Subject) -> float:
    """The mean distance between the strongest and the weakest channel, 0 to 255; grey has 0."""
    thumbnail = subject.thumbnail
    return round(float(np.mean(thumbnail.max(axis=2) - thumbnail.min(axis=2))), 2)


def sharpness(subject: Subject) -> float:
    """The variance of the Laplacian of the grey image (Pech-Pacheco et al., 2000)."""
    grey = cv2.cvtColor(subject.image, cv2.COLOR_RGB2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return round(float(deviation[0, 0]) ** 2, 2)


def caption_words(subject: Subject) -> float:
    """How many words the caption has."""
    return len(subject.caption.split())


def perceptual_hash(subject: Subject) -> int:
    """64 bits that are alike for images that look alike (imagehash's phash)."""
    found = imagehash.phash(Image.fromarray(subject.thumbnail))
    return int(str(found), 16)
