import numpy as np
import pytest
import torch
from cnctl_conditions.inpaint import inpaint, kept_rmse, random_mask

from cnctl.commands.conditions.check import check_condition
from cnctl.errors import CnctlError
from cnctl.hints.metrics import score
from cnctl.hints.run import load_detector
from cnctl.images import read_hint, write_hint
from cnctl.models.network import hint_tensor


def controlnet_1_1_says(image, mask):
    """What its authors feed, in the words of diffusers' guide: image / 255, -1 where masked."""
    image = image.astype(np.float32) / 255.0
    image[mask > 0.5] = -1.0
    return torch.from_numpy(np.expand_dims(image, 0).transpose(0, 3, 1, 2))


def test_the_network_reads_minus_one_where_the_picture_is_masked(photo):
    hint = load_detector(inpaint)(photo)
    assert (hint[..., :3] == photo).all()
    mask = np.where(hint[..., 3] == 0, 1.0, 0.0)
    assert 0.3 <= mask.mean() < 0.6
    expected = controlnet_1_1_says(photo, mask)
    assert torch.equal(hint_tensor([hint], channels=3), expected)


def test_a_mask_of_the_users_own_is_the_alpha_of_a_png(photo, tmp_path):
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:, 20:40] = 0
    write_hint(tmp_path / "a.png", np.dstack([photo, alpha]))
    read = hint_tensor([read_hint(tmp_path / "a.png", channels=4)], channels=3)
    assert torch.equal(read, controlnet_1_1_says(photo, alpha == 0))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_at_least_the_share_is_masked(share):
    masks = [random_mask(48, 80, share=share, seed=seed) for seed in range(5)]
    assert all(mask.mean() >= share for mask in masks)
    assert share == 0 or len({mask.tobytes() for mask in masks}) == 5
    assert np.mean([mask.mean() for mask in masks]) < share + 0.15


def test_masks_of_training_are_seeded_and_differ():
    draw = inpaint.training_options
    options = [draw(np.random.default_rng(seed)) for seed in range(50)]
    assert options[7] == draw(np.random.default_rng(7))
    shares = [drawn["share"] for drawn in options]
    assert np.mean(shares) == pytest.approx(0.45, abs=0.1)
    assert len({drawn["seed"] for drawn in options}) == 50


def test_the_contract_is_kept(photo):
    assert check_condition(inpaint, image=photo) == []


def test_a_hint_without_its_mask_is_refused(photo):
    from dataclasses import replace

    broken = replace(inpaint, options={}, load_detector=lambda device: lambda image: image)
    with pytest.raises(CnctlError, match=r"uint8 \(64, 64\) with 4 channels"):
        load_detector(broken)(photo)


def test_fidelity_is_of_what_the_hint_shows(photo):
    hint, other = (load_detector(inpaint)(photo, seed=seed) for seed in (0, 1))
    assert score(inpaint.metric, hint, other) == 0
    changed = other.copy()
    changed[..., :3] = 255 - photo
    shown = hint[..., 3] > 0
    difference = (255 - 2 * photo[shown].astype(float)) / 255
    assert kept_rmse(hint, changed) == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert kept_rmse(np.zeros_like(hint), changed) == 0
