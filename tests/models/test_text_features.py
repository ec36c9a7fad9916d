"""Batches of prompts of different lengths."""

import torch

from cnctl.models.text_features import TextFeatures, join


def test_shorter_prompts_are_padded_and_masked() -> None:
    long, short = torch.ones(1, 3, 2), torch.full((1, 1, 2), 2.0)
    both = join([TextFeatures(long), TextFeatures(short)])
    assert both.tokens[1].tolist() == [[2, 2], [0, 0], [0, 0]]
    assert both.mask is not None
    assert both.mask.tolist() == [[True, True, True], [True, False, False]]
    half = both.second_half()
    assert half.mask is not None
    assert half.mask.tolist() == [[True, False, False]]


def test_prompts_of_one_length_need_no_mask() -> None:
    assert join([TextFeatures(torch.ones(1, 3, 2)), TextFeatures(torch.ones(2, 3, 2))]).mask is None


def test_the_scale_of_guidance_goes_with_the_batch() -> None:
    told = TextFeatures(torch.ones(2, 3, 2)).guided_by(3.5)
    assert told.guidance is not None
    assert join([told, told]).to(torch.float16).guidance.tolist() == [3.5] * 4  # type: ignore[union-attr]
    assert TextFeatures(torch.ones(2, 3, 2)).guided_by(None).guidance is None
