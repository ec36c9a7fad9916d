"""Rules on images, against other programs that measure the same."""

import imagehash
import numpy as np
import pytest
from PIL import Image

from cnctl.curation.rules.general import colour, perceptual_hash
from cnctl.curation.rules.subject import Subject
from tests.curation.data_sets import paint


@pytest.mark.parametrize("seed", range(20))
def test_hashes_are_those_of_imagehash_and_colour_is_a_mean_of_distances(tmp_path, seed):
    image = np.asarray(Image.open(paint(tmp_path / "a.png", seed, size=(150, 100 + seed))))
    subject = Subject(image.shape[:2], image, "")
    expected = imagehash.phash(Image.fromarray(subject.thumbnail))
    assert f"{perceptual_hash(subject):016x}" == str(expected)
    apart = subject.thumbnail.max(axis=2).astype(int) - subject.thumbnail.min(axis=2)
    assert colour(subject) == round(float(apart.mean()), 2)
