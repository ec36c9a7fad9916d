import hashlib
import json

import numpy as np
import pytest
import torch
from cnctl_conditions.segmentation import PALETTE, ade20k, ade20k_oneformer
from cnctl_conditions.shared.labels import colour, shares
from cnctl_conditions.shared.networks import import_network

from cnctl.errors import CnctlError
from cnctl.hints.run import load_detections, load_detector

FOLDER = "upernet-convnext-small"


def test_the_colours_are_those_of_the_released_models_byte_for_byte():
    theirs = import_network("util", "ade_palette")()
    assert [list(rgb) for rgb in PALETTE.values()] == theirs
    assert len(PALETTE) == 150


@pytest.mark.parametrize(
    ("name", "number", "rgb"),
    [
        ("wall", 0, (120, 120, 120)),
        ("building", 1, (180, 120, 120)),
        ("sky", 2, (6, 230, 230)),
        ("floor", 3, (80, 50, 50)),
        ("tree", 4, (4, 200, 3)),
        ("ceiling", 5, (120, 120, 80)),
        ("road", 6, (140, 140, 140)),
        ("bed", 7, (204, 5, 255)),
        ("windowpane", 8, (230, 230, 230)),
        ("grass", 9, (4, 250, 7)),
        ("cabinet", 10, (224, 5, 255)),
        ("sidewalk", 11, (235, 255, 7)),
        ("person", 12, (150, 5, 61)),
        ("flag", 149, (92, 0, 255)),
    ],
)
def test_names_stand_at_their_colours(name, number, rgb):
    assert list(PALETTE)[number] == name
    assert PALETTE[name] == rgb
    assert colour(np.array([[number]]), PALETTE).tolist() == [[list(rgb)]]


def test_the_palette_is_never_changed_by_accident():
    digest = hashlib.sha256(bytes(value for rgb in PALETTE.values() for value in rgb)).hexdigest()
    theirs = np.array(import_network("util", "ade_palette")(), np.uint8).tobytes()
    assert digest == hashlib.sha256(theirs).hexdigest()
    assert dict(ade20k.palette) == PALETTE


def test_shares_are_of_the_pixels_largest_first():
    assert shares(np.array([[2, 2], [2, 0]]), PALETTE) == {"sky": 0.75, "wall": 0.25}


def test_every_pixel_has_a_colour_of_the_palette_at_any_size(
    detectors, folders, photo, same_in_batches
):
    folders.upernet(detectors / FOLDER)
    detect = load_detector(ade20k)
    for image in (photo, photo[:40, :61]):
        hint = detect(image)
        assert hint.shape == image.shape
        assert {tuple(rgb) for rgb in hint.reshape(-1, 3).tolist()} <= set(PALETTE.values())
    found = load_detections(ade20k)(photo)
    assert sum(found.data["shares"].values()) == pytest.approx(1, abs=0.01)
    same_in_batches(ade20k, 61)


def test_the_map_is_what_the_network_says(detectors, folders, photo):
    """Nothing is resized at the network's own size: the class that scores highest."""
    model = folders.upernet(detectors / FOLDER)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    labels = model((pixels - mean) / deviation).logits[0].argmax(dim=0).numpy()
    expected = np.array(import_network("util", "ade_palette")(), np.uint8)[labels]
    assert len(np.unique(labels)) > 3
    assert (load_detector(ade20k)(photo) == expected).all(axis=2).mean() > 0.99


def task_tokens(folder):
    """The sentence in single letters, as the small vocabulary has them; 0 beyond its end."""
    vocabulary = json.loads((folder / "vocab.json").read_text())
    letters = [
        vocabulary[f"{letter}</w>" if last else letter]
        for word in ("the", "task", "is", "semantic")
        for letter, last in zip(word, [*[False] * (len(word) - 1), True], strict=True)
    ]
    tokens = [vocabulary["<|startoftext|>"], *letters, vocabulary["<|endoftext|>"]]
    return torch.tensor([tokens + [0] * (77 - len(tokens))])


def test_oneformer_is_told_its_task_and_its_map_is_what_it_says(
    detectors, folders, photo, same_in_batches
):
    """The network at its own size, from a pickle that the safe reader reads, without the hub."""
    folder = detectors / "oneformer_ade20k_swin_large"
    model = folders.oneformer(folder)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    said = model((pixels - mean) / deviation, task_inputs=task_tokens(folder))
    classes = said.class_queries_logits.softmax(dim=2)[0, :, :-1]
    scores = torch.einsum("qc,qhw->chw", classes, said.masks_queries_logits[0].sigmoid())
    scores = torch.nn.functional.interpolate(scores[None], (64, 64), mode="bilinear")[0]
    expected = np.array(list(PALETTE.values()), np.uint8)[scores.argmax(dim=0).numpy()]
    detect = load_detector(ade20k_oneformer)
    hint = detect(photo)
    assert (hint == expected).all(axis=2).mean() > 0.99
    assert detect(photo[:40, :61]).shape == (40, 61, 3)
    same_in_batches(ade20k_oneformer, 61)
    asked_otherwise = model((pixels - mean) / deviation, task_inputs=task_tokens(folder).flip(1))
    assert not torch.equal(asked_otherwise.class_queries_logits, said.class_queries_logits)


def test_a_model_of_other_classes_is_refused(monkeypatch, tmp_path, folders):
    folders.upernet(tmp_path / FOLDER, labels=19)
    monkeypatch.setenv("CNCTL_DETECTORS", str(tmp_path))
    with pytest.raises(CnctlError, match="19 classes, not the 150"):
        load_detector(ade20k)


def test_the_recipe_is_the_papers():
    """Section 3.5: 164K pairs, 200 A100 GPU-hours, Stable Diffusion 1.5."""
    assert "164K" in ade20k.train.recipe
    assert "200 A100" in ade20k.train.recipe
    assert ade20k.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
