import numpy as np
import pytest
from cnctl_conditions.coco_stuff import PALETTE, coco_stuff, read_labels
from cnctl_conditions.shared.coco_stuff_palette import CLASSES, UNUSED
from PIL import Image

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.errors import CnctlError
from cnctl.hints.ready import read_ground_truth, read_ready
from cnctl.hints.run import hint_from_maps, load_detections, load_detector
from cnctl.images import read_hint

FOLDER = "maskformer-resnet101-coco-stuff"

VOC = [
    *[(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)],
    *[(0, 128, 128), (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0)],
    *[(64, 0, 128), (192, 0, 128), (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0)],
    *[(0, 192, 0), (128, 192, 0), (0, 64, 128)],
]
"""As the development kit of PASCAL VOC 2012 prints them, background first."""


def test_the_colours_are_voc_s_and_all_differ():
    assert list(PALETTE.values())[:21] == VOC
    assert len(PALETTE) == len(set(PALETTE.values())) == 183
    assert dict(coco_stuff.palette) == PALETTE
    assert coco_stuff.references[1] == "Palette: voc-182, version 1"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *[(0, "person"), (1, "bicycle"), (11, "street sign"), (12, "stop sign")],
        *[(89, "toothbrush"), (91, "banner"), (123, "grass"), (156, "sky-other"), (181, "wood")],
    ],
)
def test_a_pixel_s_number_is_the_class_s_less_one(value, name):
    """As the data set's labels.txt numbers them, from 1; its maps count from 0."""
    assert CLASSES[value] == name
    assert read_labels(np.array([[value]], np.uint8)).tolist() == [[list(PALETTE[name])]]


def test_eleven_classes_are_numbered_but_not_used():
    numbers = {number for number, name in enumerate(CLASSES, start=1) if name in UNUSED}
    assert numbers == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    assert len(CLASSES) - len(UNUSED) == 171


def test_a_renderer_s_labels_have_the_colours_of_the_same_classes():
    """An animal of ADE20K may be any of ten classes here: it is unlabelled."""
    names = ("person", "sky", "wall", "animal")
    maps = {
        "image": np.zeros((1, 4, 3), np.uint8),
        "names": names,
        "labels": np.uint8([[0, 1, 2, 3]]),
    }
    same = ("person", "sky-other", "wall-other", "unlabelled")
    assert hint_from_maps(coco_stuff, maps)[0].tolist() == [list(PALETTE[name]) for name in same]


def test_what_nobody_knows_is_black_and_strangers_are_refused():
    assert read_labels(np.full((2, 2), 255, np.uint8)).tolist() == [[[0, 0, 0]] * 2] * 2
    with pytest.raises(CnctlError, match="label 182 is not a class"):
        read_labels(np.array([[3, 182]], np.uint8))
    assert read_labels(np.zeros((4, 4, 3), np.uint8)) is None, "colours already"


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_data_set_is_made_of_the_maps(tmp_path, mode):
    """Whatever colours a palette file would show, its indices are what counts."""
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "images/7.jpg")
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 20:], labels[40:] = 156, 255
    stored = Image.fromarray(labels)
    if mode == "P":
        stored = stored.convert("P")
        stored.putpalette([7, 99, 3] * 256)
    stored.save(tmp_path / "maps/7.png")
    annotate(
        AnnotateRequest(
            conditions="coco-stuff",
            inputs=[tmp_path / "images"],
            out=tmp_path / "set",
            resolution=24,
            ground_truth=tmp_path / "maps",
        )
    )
    hint = read_hint(tmp_path / "set/7-coco-stuff.png", channels=3)
    expected = np.zeros((24, 32, 3), np.uint8)
    expected[:20, :10], expected[:20, 10:] = PALETTE["person"], PALETTE["sky-other"]
    assert np.array_equal(hint, expected)
    assert np.array_equal(read_ready(coco_stuff, tmp_path / "maps/7.png")[::2, ::2], expected)
    assert np.array_equal(read_ready(coco_stuff, tmp_path / "set/7-coco-stuff.png"), hint)


@pytest.fixture
def labels():
    """Stripes of person, bicycle, sky-other, wood and what nobody knows."""
    return np.repeat(np.array([0, 1, 156, 181, 255], np.uint8), 8)[None].repeat(16, axis=0)


def test_a_hint_that_a_tool_has_made_small_is_still_a_hint(tmp_path, labels):
    """A picture with a palette of its few colours, in the tool's own order."""
    hint = read_labels(labels)
    Image.fromarray(hint).quantize(8, dither=Image.Dither.NONE).save(tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as small:
        assert small.mode == "P"
    assert np.array_equal(read_ready(coco_stuff, tmp_path / "small.png"), hint)
    sizes = (hint.shape[:2], hint.shape[:2])
    with pytest.raises(CnctlError, match=r"small\.png is not ground truth of coco-stuff"):
        read_ground_truth(coco_stuff, tmp_path / "small.png", sizes=sizes, options={})


@pytest.mark.parametrize("shown_as", ["voc", "own"])
def test_labels_that_are_shown_in_the_palette_s_colours_are_still_labels(
    tmp_path, labels, shown_as
):
    """Label maps often carry VOC's colours for a look at them, number i colour i.

    The hint has colour i + 1. Where they carry the hint's, both readings are one.
    """
    stored = Image.fromarray(labels).convert("P")
    colours = list(PALETTE.values())[shown_as == "own" :][:182]
    stored.putpalette([value for rgb in colours for value in rgb] + [0] * 3 * (256 - len(colours)))
    stored.save(tmp_path / "7.png")
    assert np.array_equal(read_ready(coco_stuff, tmp_path / "7.png"), read_labels(labels))


def test_labels_in_shards_are_labels_too(tmp_path, labels):
    Image.fromarray(labels).save(tmp_path / "7.png")
    data = (tmp_path / "7.png").read_bytes()
    assert np.array_equal(read_ready(coco_stuff, data), read_labels(labels))


def test_every_pixel_has_a_colour_of_a_used_class(detectors, folders, photo, same_in_batches):
    folders.maskformer(detectors / FOLDER)
    used = {PALETTE[name] for name in CLASSES if name not in UNUSED}
    detect = load_detector(coco_stuff)
    for image in (photo, photo[:40, :61]):
        hint = detect(image)
        assert hint.shape == image.shape
        assert {tuple(rgb) for rgb in hint.reshape(-1, 3).tolist()} <= used
    found = load_detections(coco_stuff)(photo)
    assert sum(found.data["shares"].values()) == pytest.approx(1, abs=0.01)
    same_in_batches(coco_stuff, 61)


def test_the_map_is_what_the_network_says(detectors, folders, photo):
    """Masks weighted by what each query sees, the largest wins; unused classes are stepped over.

    With random weights all queries see the same, so the picture has one class: the 33rd.
    """
    import torch

    model = folders.maskformer(detectors / FOLDER)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    said = model((pixels - mean) / deviation)
    classes = said.class_queries_logits.softmax(dim=2)[0, :, :-1]
    scores = torch.einsum("qc,qhw->chw", classes, said.masks_queries_logits[0].sigmoid())
    scores = torch.nn.functional.interpolate(scores[None], (64, 64), mode="bilinear")[0]
    names = [name for name in CLASSES if name not in UNUSED]
    expected = np.array([PALETTE[name] for name in names], np.uint8)[scores.argmax(dim=0).numpy()]
    hint = load_detector(coco_stuff)(photo)
    assert np.array_equal(hint, expected)
    assert (hint == PALETTE[names[32]]).all()
    assert names[32] == CLASSES[36] == "sports ball"


def test_a_model_of_other_classes_is_refused(monkeypatch, tmp_path, folders):
    folders.maskformer(tmp_path / FOLDER, labels=133)
    monkeypatch.setenv("CNCTL_DETECTORS", str(tmp_path))
    with pytest.raises(CnctlError, match="133 classes, not the 171"):
        load_detector(coco_stuff)


def test_the_detector_is_not_for_commercial_use_and_the_maps_need_none(detectors, folders):
    folders.maskformer(detectors / FOLDER)
    with pytest.raises(CnctlError, match="non-commercial use only"):
        load_detector(coco_stuff, commercial=True)


def test_the_recipe_is_the_papers():
    """Section 3.5: 164K pairs, 400 RTX 3090TI GPU-hours, Stable Diffusion 1.5."""
    for fact in ("164K", "400 RTX 3090TI", "BLIP"):
        assert fact in coco_stuff.train.recipe
    assert coco_stuff.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
